//! Numbers and sizes in Flink's configuration with which no process would come up.

use std::collections::BTreeMap;

type Keys = BTreeMap<String, String>;

const PROCESSES: [&str; 2] = ["jobmanager", "taskmanager"];

/// Parts of a TaskManager's memory that do not overlap.
const PARTS: [&str; 6] = [
    "taskmanager.memory.framework.heap.size",
    "taskmanager.memory.task.heap.size",
    "taskmanager.memory.managed.size",
    "taskmanager.memory.framework.off-heap.size",
    "taskmanager.memory.task.off-heap.size",
    "taskmanager.memory.network.min",
];

/// Why Flink would not start, or not run any task.
#[must_use]
pub fn implausible(keys: &Keys) -> Vec<String> {
    let mut reasons: Vec<String> = keys.iter().filter_map(unreadable).collect();
    reasons.extend(PROCESSES.iter().flat_map(|process| unfit(keys, process)));
    reasons.extend(keys.keys().filter_map(|key| crossed(keys, key)));
    let total = get(keys, "taskmanager.memory.flink.size")
        .or_else(|| get(keys, "taskmanager.memory.process.size"));
    let parts: u64 = PARTS.iter().filter_map(|key| get(keys, key)).sum();
    if total.is_some_and(|total| parts > total) {
        reasons.push("the parts of the taskmanager's memory are more than all of it".to_owned());
    }
    reasons
}

fn unreadable((key, value): (&String, &String)) -> Option<String> {
    let is_count = matches!(
        key.as_str(),
        "parallelism.default" | "taskmanager.numberOfTaskSlots"
    );
    if is_size(key) && size(value).is_none() {
        return Some(format!("{key} is not a size: write it as 512m or 2g"));
    }
    let positive = value.trim().parse::<u32>().is_ok_and(|count| count > 0);
    (is_count && !positive).then(|| format!("{key} is not a number above 0"))
}

/// What a process needs is more than it gets.
fn unfit(keys: &Keys, process: &str) -> Option<String> {
    let of = |part: &str| get(keys, &format!("{process}.memory.{part}.size"));
    let (total, flink) = (of("process"), of("flink"));
    let above =
        |part: Option<u64>, all: Option<u64>| part.zip(all).is_some_and(|(part, all)| part >= all);
    if above(flink, total) {
        let text =
            format!("{process}.memory.flink.size is not below {process}.memory.process.size");
        return Some(text);
    }
    above(of("heap"), total.or(flink))
        .then(|| format!("{process}.memory.heap.size is not below the memory of the {process}"))
}

/// The least is above the most.
fn crossed(keys: &Keys, key: &str) -> Option<String> {
    let most = format!("{}.max", key.strip_suffix(".min")?);
    let both = get(keys, key).zip(get(keys, &most));
    both.is_some_and(|(least, most)| least > most)
        .then(|| format!("{key} is above {most}"))
}

fn get(keys: &Keys, key: &str) -> Option<u64> {
    keys.get(key)
        .filter(|_| is_size(key))
        .and_then(|value| size(value))
}

fn is_size(key: &str) -> bool {
    let of_process = PROCESSES.iter().any(|process| {
        key.strip_prefix(process)
            .is_some_and(|rest| rest.starts_with(".memory."))
    });
    let ends = [".size", ".min", ".max"];
    of_process && ends.iter().any(|end| key.ends_with(end))
}

/// A size as Flink reads it (`MemorySize.parseBytes`).
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let shift = match text[end..].trim() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}
