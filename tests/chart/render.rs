//! What is installed, for each way of certificates and for two replicas.

use serde_json::{Value, json};

use crate::helm::{all, deploy, helm, only, parse, render};

/// Service accounts of Flink.
const ACCOUNTS: &[&str] = &[
    "flink.serviceAccounts[0].namespace=orders",
    "flink.serviceAccounts[0].name=flink",
    "flink.serviceAccounts[0].clusterId=orders",
    "flink.serviceAccounts[0].create=true",
    "flink.serviceAccounts[0].flinkRole=true",
    "flink.serviceAccounts[1].namespace=orders",
    "flink.serviceAccounts[1].name=flink",
    "flink.serviceAccounts[1].clusterId=bills",
    // The same account and cluster once more, and names that would be the same with dashes between their parts.
    "flink.serviceAccounts[2].namespace=orders",
    "flink.serviceAccounts[2].name=flink",
    "flink.serviceAccounts[2].clusterId=bills",
    "flink.serviceAccounts[2].create=true",
    "flink.serviceAccounts[3].namespace=orders",
    "flink.serviceAccounts[3].name=b",
    "flink.serviceAccounts[3].clusterId=a-flink",
    "flink.serviceAccounts[4].namespace=orders",
    "flink.serviceAccounts[4].name=flink-b",
    "flink.serviceAccounts[4].clusterId=a",
    "flink.serviceAccounts[4].flinkRole=true",
    "flink.serviceAccounts[5].namespace=orders",
    "flink.serviceAccounts[5].name=b",
    "flink.serviceAccounts[5].clusterId=flink",
    "flink.serviceAccounts[5].flinkRole=true",
];

/// The argument lists that the tests render the chart with.
fn variants() -> Vec<(&'static str, Vec<String>)> {
    let set = |values: &[&str]| {
        let pairs = values.iter().map(|value| format!("--set={value}"));
        pairs.collect::<Vec<_>>()
    };
    let files = set(&[
        "certificates.mode=files",
        "certificates.files.secretName=mine",
        "certificates.files.caBundle=-----BEGIN CERTIFICATE-----",
        "certificates.clientCAConfigMap=clients",
    ]);
    let everything = set(&[
        "admissionPolicy.enabled=true",
        "networkPolicy.enabled=true",
        "networkPolicy.from[0].ipBlock.cidr=10.0.0.0/28",
        "namespace.create=true",
        "hostNetwork=true",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "imagePullSecrets[0]=pull",
        "injection.allowedImages[0]=registry.example/drey*",
        "podLabels.team=streams",
        "podAnnotations.note=yes",
        "nodeSelector.zone=a",
        "tolerations[0].operator=Exists",
        "topologySpreadConstraints[0].maxSkew=1",
        "topologySpreadConstraints[0].topologyKey=zone",
        "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
        "flink.readNodes=true",
        "webhook.lookUp={rights,configuration}",
        "podLabels.app\\.kubernetes\\.io/name=other",
    ]);
    let everything = [everything, set(ACCOUNTS)].concat();
    // Of kinds that the Prometheus Operator brings.
    let monitoring = set(&[
        "monitoring.podMonitor.enabled=true",
        "monitoring.serviceMonitor.enabled=true",
        "monitoring.prometheusRule.enabled=true",
        "monitoring.dashboards.enabled=true",
    ]);
    vec![
        ("default", vec![]),
        (
            "HA",
            vec![format!("--values={}", deploy("chart/values-ha.yaml"))],
        ),
        ("cert-manager", set(&["certificates.mode=cert-manager"])),
        ("files", files),
        ("everything", everything),
        ("monitoring", monitoring),
    ]
}

/// The objects of a variant.
pub fn rendered(name: &str) -> Vec<Value> {
    let variants = variants();
    let found = variants.iter().find(|(variant, _)| *variant == name);
    let (_, args) = found.unwrap();
    render(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_variant_is_good_by_helms_own_lint_and_names_each_object_once() {
    for (name, args) in variants() {
        let chart = deploy("chart");
        let mut all = vec!["lint", "--strict", "--namespace=drey-system", &chart];
        all.extend(args.iter().map(String::as_str));
        let output = helm(&all);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {said}");

        let mut names: Vec<String> = rendered(name)
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                format!(
                    "{} {} {}",
                    object["kind"], metadata["namespace"], metadata["name"]
                )
            })
            .collect();
        names.sort();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique, "{name}");
    }
}

#[test]
fn by_default_an_opted_in_jobmanager_needs_the_webhook_and_a_taskmanager_does_not() {
    let objects = rendered("default");
    let webhooks = &only(&objects, "MutatingWebhookConfiguration")["webhooks"];
    let policies: Vec<(&str, &str)> = webhooks
        .as_array()
        .unwrap()
        .iter()
        .map(|hook| {
            let text = |key: &str| hook[key].as_str().unwrap();
            (text("name"), text("failurePolicy"))
        })
        .collect();

    assert_eq!(
        policies,
        [
            ("jobmanager.drey.io", "Fail"),
            ("taskmanager.drey.io", "Ignore"),
            ("namespace-jobmanager.drey.io", "Fail"),
            ("namespace-taskmanager.drey.io", "Ignore"),
        ]
    );
}

#[test]
fn no_entry_can_hold_up_the_cluster_or_drift() {
    for name in ["default", "HA", "cert-manager", "everything"] {
        let objects = rendered(name);
        let webhooks = &only(&objects, "MutatingWebhookConfiguration")["webhooks"];
        for hook in webhooks.as_array().unwrap() {
            assert!(hook["timeoutSeconds"].as_u64() <= Some(5), "{hook}");
            assert!(!hook["matchConditions"].as_array().unwrap().is_empty());
            assert_eq!(hook["clientConfig"]["caBundle"], Value::Null, "{hook}");
            assert_eq!(hook["sideEffects"], "NoneOnDryRun");
            assert_eq!(hook["reinvocationPolicy"], "IfNeeded");
            let excluded = &hook["namespaceSelector"]["matchExpressions"][0];
            assert_eq!(excluded["operator"], "NotIn");
            assert_eq!(
                excluded["values"],
                json!([
                    "drey-system",
                    "kube-system",
                    "kube-public",
                    "kube-node-lease"
                ])
            );
        }
    }
}

/// Pod Security `restricted`, and a root that nobody writes to.
#[test]
fn the_webhooks_pod_is_restricted_in_every_variant() {
    for (name, _) in variants() {
        let objects = rendered(name);
        let spec = &only(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        let seccomp = &spec["securityContext"]["seccompProfile"]["type"];
        assert_eq!(seccomp, "RuntimeDefault", "{name}");
        for container in spec["containers"].as_array().unwrap() {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                }),
                "{name}"
            );
        }
    }
}

/// No right to create, list or change Secrets, Leases or webhooks of others.
#[test]
fn the_webhooks_rights_on_secrets_leases_and_webhooks_are_by_name() {
    for (name, _) in variants() {
        let objects = rendered(name);
        let roles = [all(&objects, "ClusterRole"), all(&objects, "Role")].concat();
        let rules = roles
            .iter()
            .flat_map(|role| role["rules"].as_array().unwrap());
        for rule in rules {
            let resource = rule["resources"][0].as_str().unwrap();
            if ["secrets", "leases", "mutatingwebhookconfigurations"].contains(&resource) {
                assert!(rule["resourceNames"].is_array(), "{name}: {rule}");
                let verbs = rule["verbs"].as_array().unwrap();
                assert!(!verbs.contains(&json!("create")), "{name}: {rule}");
            }
        }
    }
}

/// A job that runs while the chart is uninstalled still ends with a savepoint.
#[test]
fn what_flinks_pods_need_outlives_the_release() {
    let (with, without) = (rendered("everything"), rendered("HA"));
    let mut kept = 0;
    for object in with.iter().chain(&without) {
        let metadata = &object["metadata"];
        let of_flink = metadata["labels"]["app.kubernetes.io/component"] == "flink";
        let policy = &metadata["annotations"]["helm.sh/resource-policy"];
        assert_eq!(of_flink, policy == "keep", "{object}");
        let name = metadata["name"].as_str().unwrap();
        assert_eq!(
            of_flink,
            !name.starts_with("drey-webhook") && is_right(object),
            "{object}"
        );
        kept += usize::from(of_flink);
    }
    assert!(kept > 0);
}

fn is_right(object: &Value) -> bool {
    let kinds = [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    ];
    kinds.iter().any(|kind| object["kind"] == *kind)
}

#[test]
fn two_replicas_are_kept_apart_and_never_go_together() {
    let objects = rendered("HA");
    let deployment = only(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    let affinity = &deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(required["labelSelector"]["matchLabels"], *labels);
    let budget = only(&objects, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn cert_manager_makes_the_certificate_and_fills_the_authority_in() {
    let objects = rendered("cert-manager");
    let named = |kind: &str, name: &str| {
        let found = all(&objects, kind);
        let mut found = found.iter().filter(|it| it["metadata"]["name"] == name);
        found.next().unwrap()["spec"].clone()
    };
    let certificate = named("Certificate", "drey-webhook");
    assert_eq!(certificate["secretName"], "drey-webhook-tls");
    let names = certificate["dnsNames"].as_array().unwrap();
    assert!(names.contains(&json!("drey-webhook.drey-system.svc")));
    // The authority stays when the certificate is renewed.
    assert_eq!(certificate["issuerRef"]["name"], "drey-webhook");
    let issuer = named("Issuer", "drey-webhook");
    let authority = named("Certificate", "drey-webhook-ca");
    assert_eq!(issuer["ca"]["secretName"], authority["secretName"]);
    assert_eq!(authority["isCA"], true);
    assert_eq!(authority["privateKey"]["rotationPolicy"], "Never");
    let root = authority["issuerRef"]["name"].as_str().unwrap();
    assert!(named("Issuer", root)["selfSigned"].is_object());
    let webhook = only(&objects, "MutatingWebhookConfiguration");
    let from = &webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    assert_eq!(from, "drey-system/drey-webhook");
    assert!(all(&objects, "Secret").is_empty());
}

#[test]
fn an_issuer_of_the_users_is_the_only_one() {
    let objects = render(&[
        "--set=certificates.mode=cert-manager",
        "--set=certificates.certManager.issuerRef.kind=ClusterIssuer",
        "--set=certificates.certManager.issuerRef.name=ours",
    ]);
    assert!(all(&objects, "Issuer").is_empty());
    let issuer = &only(&objects, "Certificate")["spec"]["issuerRef"];
    assert_eq!(*issuer, json!({"kind": "ClusterIssuer", "name": "ours"}));
}

#[test]
fn files_are_mounted_as_directories_and_their_authority_is_rendered() {
    let objects = rendered("files");
    let spec = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(spec["volumes"][0]["secret"]["secretName"], "mine");
    assert_eq!(spec["volumes"][1]["configMap"]["name"], "clients");
    let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["subPath"].is_null()));
    let webhook = only(&objects, "MutatingWebhookConfiguration");
    for hook in webhook["webhooks"].as_array().unwrap() {
        assert!(hook["clientConfig"]["caBundle"].is_string());
    }
}

/// The Role in the chart and the one for `kubectl apply` are the same for the same cluster id.
#[test]
fn flinks_service_accounts_get_the_rules_of_rbac_yaml() {
    let by_hand = parse(&std::fs::read_to_string(deploy("rbac.yaml")).unwrap());
    let rules = |objects: &[Value], name: &str| {
        let roles = all(objects, "Role");
        let role = roles.iter().find(|role| role["metadata"]["name"] == name);
        role.unwrap()["rules"].clone()
    };
    let objects = rendered("everything");

    let expected = rules(&by_hand, "drey")
        .to_string()
        .replace("drey-example", "drey-orders");
    assert_eq!(rules(&objects, "drey:orders").to_string(), expected);
    assert_eq!(
        rules(&objects, "drey-flink:flink"),
        rules(&by_hand, "flink")
    );
}
