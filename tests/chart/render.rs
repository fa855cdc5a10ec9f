//! What is installed, for each way of certificates and for two replicas.

use serde_json::{Value, json};

use crate::helm::{all, deploy, helm, only, parse, render};

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
        "flink.serviceAccounts[0].namespace=orders",
        "flink.serviceAccounts[0].name=flink",
        "flink.serviceAccounts[0].clusterId=orders",
        "flink.serviceAccounts[0].create=true",
        "flink.serviceAccounts[0].flinkRole=true",
        "flink.serviceAccounts[1].namespace=orders",
        "flink.serviceAccounts[1].name=flink",
        "flink.serviceAccounts[1].clusterId=bills",
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
    let certificate = only(&objects, "Certificate");
    assert_eq!(certificate["spec"]["secretName"], "drey-webhook-tls");
    let names = certificate["spec"]["dnsNames"].as_array().unwrap();
    assert!(names.contains(&json!("drey-webhook.drey-system.svc")));
    assert_eq!(
        certificate["spec"]["issuerRef"]["name"],
        only(&objects, "Issuer")["metadata"]["name"]
    );
    let webhook = only(&objects, "MutatingWebhookConfiguration");
    let from = &webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    assert_eq!(from, "drey-system/drey-webhook");
    assert!(all(&objects, "Secret").is_empty());
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
    assert_eq!(rules(&objects, "drey-orders").to_string(), expected);
    assert_eq!(
        rules(&objects, "drey-flink-flink"),
        rules(&by_hand, "flink")
    );
}
