//! The id under which Flink stores an operator's state: the hash of the uid that the job's author gave it.
//!
//! `StreamGraphHasherV2.generateUserSpecifiedHash`: Murmur3 with 128 bits, x64, seed 0, of the uid in UTF-8. The same in all
//! versions that Drey knows. Operators without a uid get an id from the whole job graph, which nobody can know without it.

/// What a sink makes of its uid for the operators that it consists of (`SinkTransformationTranslator`).
const OF_A_SINK: [&str; 4] = [
    "Sink Writer: ",
    "Sink Committer: ",
    "Sink Pre-Writer: ",
    "Sink Global Committer: ",
];

/// The ids that an operator, or a sink with all its parts, may have state under.
pub fn of_uid(uid: &str) -> impl Iterator<Item = String> {
    let parts = OF_A_SINK.map(|part| format!("{part}{uid}"));
    std::iter::once(uid.to_owned())
        .chain(parts)
        .map(|uid| id_of(&uid))
}

/// 32 hexadecimal digits.
#[must_use]
pub fn id_of(uid: &str) -> String {
    let hash = murmur3(uid.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn murmur3(data: &[u8]) -> [u8; 16] {
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let mut blocks = data.chunks_exact(16);
    for block in &mut blocks {
        let (k1, k2) = words(block);
        h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (k1, k2) = words(blocks.remainder());
    let length = data.len() as u64;
    h1 = (h1 ^ mix1(k1)) ^ length;
    h2 = (h2 ^ mix2(k2)) ^ length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2) = (avalanche(h1), avalanche(h2));
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&h1.to_le_bytes());
    hash[8..].copy_from_slice(&h2.to_le_bytes());
    hash
}

/// Up to 16 bytes as two little-endian words; what is missing is 0, which changes nothing.
fn words(bytes: &[u8]) -> (u64, u64) {
    let mut whole = [0_u8; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    let number = u128::from_le_bytes(whole);
    (number as u64, (number >> 64) as u64)
}

fn mix1(word: u64) -> u64 {
    word.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(word: u64) -> u64 {
    word.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn avalanche(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flink::metadata;

    /// Flink 2.0 and later writes both into the metadata.
    #[test]
    fn the_id_of_a_uid_is_the_one_that_flink_stores_state_under() {
        for name in ["v5-savepoint-finished", "v6-savepoint-native"] {
            let file = format!(
                "{}/tests/fixtures/metadata/{name}",
                env!("CARGO_MANIFEST_DIR")
            );
            let bytes = std::fs::read(file).expect("a fixture");
            let metadata = metadata::parse(&bytes).expect("good metadata");
            let with_uid: Vec<_> = metadata
                .operators
                .iter()
                .filter_map(|operator| Some((operator.uid.as_deref()?, operator.id.as_str())))
                .collect();
            assert!(!with_uid.is_empty(), "{name}");
            for (uid, id) in with_uid {
                assert_eq!(id_of(uid), id, "{name}: {uid}");
            }
        }
    }
}
