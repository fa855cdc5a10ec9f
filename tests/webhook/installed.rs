//! `deploy/install.yaml`, applied by kubectl where it runs already.

use std::path::Path;

use tempfile::TempDir;

use crate::api_server::{ApiServer, kubectl};
use crate::certificates::bundles;
use crate::helm;
use crate::world::{Flags, World, run};

/// Has kubectl apply these manifests.
pub async fn apply(kubeconfig: &Path, manifests: &str, flags: &[&str]) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("install.yaml");
    std::fs::write(&file, manifests).unwrap();
    let args = ["apply", "-f", file.to_str().unwrap()];
    let args = args.iter().chain(flags).map(|&arg| arg.to_owned());
    kubectl(kubeconfig, args.collect()).await;
}

async fn timeouts(world: &World) -> Vec<Option<i32>> {
    let webhooks = world.configuration().await.webhooks.unwrap_or_default();
    webhooks.iter().map(|it| it.timeout_seconds).collect()
}

/// The certificate and the caBundle are the webhook's own, and in no manifest.
#[test]
fn what_the_webhook_has_written_outlives_another_apply() {
    run(async {
        // Its configuration is for all namespaces, so this API server is for this test alone.
        let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start().await));
        let kubeconfig = server.admin_kubeconfig();
        let manifests = std::fs::read_to_string(helm::deploy("install.yaml")).unwrap();
        apply(&kubeconfig, &manifests, &[]).await;
        let world = World::installed(server).await;
        let webhook = world.start("a", Flags::default());
        webhook.ready().await;
        let (secret, trusted) = (world.secret().await.data, bundles(&world).await);
        assert!(secret.is_some() && trusted.iter().all(|it| it.contains("BEGIN")));
        let newer = helm::text(&[
            "--set=namespace.create=true",
            "--set=webhook.timeoutSeconds=3",
        ]);
        let by_server: &[&str] = &["--server-side", "--force-conflicts"];
        for (manifests, flags, seconds) in [
            (&manifests, &[][..], 5),
            (&newer, &[], 3),
            (&manifests, by_server, 5),
        ] {
            apply(&kubeconfig, manifests, flags).await;
            assert_eq!(world.secret().await.data, secret);
            assert_eq!(bundles(&world).await, trusted);
            assert_eq!(timeouts(&world).await, vec![Some(seconds); trusted.len()]);
            let (status, text) = webhook.get("/readyz").unwrap();
            assert_eq!(status, 200, "{text}");
        }
    });
}
