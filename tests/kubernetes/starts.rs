//! A supervisor in a pod, asked as the launcher asks it. There is no Flink: what is at stake is decided without it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drey::config::{self, Settings, SettingsArgs};
use drey::control::{Call, Incoming, Prepare, Reply, Then};
use drey::domain::lock::{Holder, Lock, PodRef};
use drey::domain::pointer_map::Sight;
use drey::supervisor::{Supervisor, storage_for};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::ports::free_port;
use crate::world::World;

const POD: &str = "jm";

/// A supervisor stays on the thread that it was made on.
fn on_this_thread(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A pod in a namespace of its own, and where its savepoints go.
struct Start {
    world: World,
    dir: TempDir,
}

impl Start {
    async fn new(name: &str) -> Self {
        Self::owned(name, json!([])).await
    }

    async fn owned(name: &str, owners: Value) -> Self {
        let world = World::new(name).await;
        let pods: Api<Pod> = Api::namespaced(world.admin.clone(), &world.name);
        let pod = json!({
            "metadata": { "name": POD, "ownerReferences": owners },
            "spec": { "containers": [{ "name": "flink-main-container", "image": "flink:1.20.2" }] },
        });
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { world, dir }
    }

    fn settings(&self) -> Settings {
        let state = self.dir.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let env = [
            ("DREY_CLUSTER_ID", "orders".to_owned()),
            ("DREY_STATE_DIR", state.display().to_string()),
            ("DREY_REST_URL", format!("http://127.0.0.1:{}", free_port())),
        ];
        let env = env.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let loaded = config::load(&SettingsArgs::default(), env).unwrap();
        loaded.settings
    }

    fn supervisor(&self) -> Supervisor {
        let settings = self.settings();
        let storage = storage_for(&settings, &BTreeMap::new());
        Supervisor::in_pod(settings, storage, self.world.kube.clone(), POD).0
    }

    fn flink(&self) -> Prepare {
        let savepoints = format!("file://{}", self.savepoints().display());
        Prepare {
            flink_version: "1.20.2".to_owned(),
            configuration: [(
                "execution.checkpointing.savepoint-dir".to_owned(),
                savepoints,
            )]
            .into(),
            application: true,
            standalone: true,
            job_id: None,
            directory: PathBuf::new(),
            arguments_file: None,
            files: BTreeMap::new(),
            ordered: false,
            unreadable: None,
            getting_ready: false,
        }
    }

    fn savepoints(&self) -> PathBuf {
        self.dir.path().join("savepoints")
    }

    /// The pointer's copy beside the savepoints.
    fn copy(&self) -> PathBuf {
        let name = format!("drey-pointer-{}.json", self.world.name);
        self.savepoints().join("orders").join(name)
    }
}

fn damage(copy: &Path) {
    fs::write(copy, "{").unwrap();
}

fn block(copy: &Path) {
    fs::create_dir(copy).unwrap();
}

/// The ConfigMap is gone, and with it everything but a copy that tells nothing: there may be state to lose.
#[test]
fn without_a_pointer_a_copy_that_cannot_be_read_refuses_the_start() {
    on_this_thread(async {
        for (name, spoil) in [("damaged", damage as fn(&Path)), ("blocked", block)] {
            let start = Start::new(&format!("copy-{name}")).await;
            fs::create_dir_all(start.copy().parent().unwrap()).unwrap();
            spoil(&start.copy());

            let reply = start.supervisor().start_only(start.flink()).await;

            let Reply::Failed { error, .. } = reply else {
                panic!("{name}: {reply:?}")
            };
            assert!(
                error.contains("there is no pointer in the namespace"),
                "{name}: {error}"
            );
            assert!(
                error.contains(&start.copy().display().to_string()),
                "{name}: {error}"
            );
            let stands = start.world.load().await;
            assert!(!matches!(stands.pointer, Sight::Good(_)), "{name}");

            match name {
                "damaged" => fs::remove_file(start.copy()).unwrap(),
                _ => fs::remove_dir(start.copy()).unwrap(),
            }
            let reply = start.supervisor().start_only(start.flink()).await;
            let Reply::Start(order) = reply else {
                panic!("{name}: {reply:?}")
            };
            assert_eq!(order.restore_from, None, "{name}");
        }
    });
}

/// The garbage collector gets to the pod a little later. Until then it must not pass for one of another owner, which would run
/// a finished job again.
#[test]
fn a_pod_whose_owner_is_gone_starts_nothing() {
    on_this_thread(async {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders-abc", "controller": true,
            "uid": "11111111-2222-3333-4444-555555555555"});
        let start = Start::owned("owner-gone", json!([owner])).await;

        let reply = start.supervisor().start_only(start.flink()).await;

        let Reply::Failed { error, code } = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(code, 75);
        assert!(error.contains("what owns the pod is gone"), "{error}");
        let map = start.world.maps().get_opt("drey-orders").await.unwrap();
        assert!(map.is_none(), "not even the lock is taken: {map:?}");
    });
}

async fn ask(calls: &mpsc::Sender<Incoming>, call: Call) -> oneshot::Receiver<Reply> {
    let (back, reply) = oneshot::channel();
    calls.send((call, back)).await.unwrap();
    reply
}

/// A supervisor whose launcher has started Flink, and waits for the order to end it.
async fn started(start: &Start) -> (mpsc::Sender<Incoming>, oneshot::Receiver<Reply>) {
    let (calls, received) = mpsc::channel(4);
    tokio::task::spawn_local(start.supervisor().run(received));
    let reply = ask(&calls, Call::Prepare(start.flink()))
        .await
        .await
        .unwrap();
    let Reply::Start(order) = reply else {
        panic!("{reply:?}")
    };
    let flink = Call::Started {
        flink: start.flink(),
        run: order.run,
        pid: 4242,
        adopted: false,
    };
    assert_eq!(ask(&calls, flink).await.await.unwrap(), Reply::Done);
    let order = ask(&calls, Call::Order).await;
    (calls, order)
}

fn another_holds_it() -> Lock {
    let pod = PodRef {
        uid: "uid-of-another".to_owned(),
        name: "another".to_owned(),
        ip: None,
        node: None,
        template: "b".to_owned(),
    };
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    let holder = Holder {
        pod,
        since,
        deadline: None,
    };
    Lock {
        holders: vec![holder],
        waiters: Vec::new(),
    }
}

async fn was_told(world: &World, reason: &str) -> bool {
    let events: Api<Event> = Api::namespaced(world.admin.clone(), &world.name);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    events
        .iter()
        .any(|event| event.reason.as_deref() == Some(reason))
}

#[test]
fn a_jobmanager_is_ended_when_another_pod_has_its_lock_and_not_when_nobody_has() {
    on_this_thread(async {
        let start = Start::new("lock-lost").await;
        let world = &start.world;
        let (_calls, mut order) = started(&start).await;
        let lock = world.load().await.lock;
        assert_eq!(lock.holders.len(), 1);

        world.edit(json!({ "data": { "lock.json": "{}" } })).await;
        let begin = Instant::now();
        while world.load().await.lock.holders.is_empty() {
            assert!(begin.elapsed().as_secs() < 60, "the lock is not put back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(order.try_recv().is_err());

        let theirs = serde_json::to_string(&another_holds_it()).unwrap();
        world.edit(json!({ "data": { "lock.json": theirs } })).await;
        let reply = tokio::time::timeout(Duration::from_secs(60), order).await;
        let Reply::Terminate { then, .. } = reply.unwrap().unwrap() else {
            panic!("not ended")
        };
        assert_eq!(then, Then::Again);
        while !was_told(world, "LockLost").await {
            assert!(begin.elapsed().as_secs() < 120, "nobody is told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(world.load().await.lock, another_holds_it());
    });
}
