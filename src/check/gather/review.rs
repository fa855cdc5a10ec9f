//! Asks the API server who may do what.

use futures_util::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use super::super::Sight;
use super::super::rights::{Needed, Right};
use super::ask::see;
use crate::kubernetes::Kube;

const GROUP: &str = "authorization.k8s.io";

/// Requests under way at once.
const CONCURRENCY: usize = 4;

/// Which of these rights the user has. Everybody may ask that.
pub(super) async fn own(kube: &Kube, rights: Vec<Right>) -> Vec<(Right, Sight<bool>)> {
    let asked = rights.into_iter().map(|right| async move {
        let may = own_one(kube, &right).await;
        (right, may)
    });
    stream::iter(asked).buffered(CONCURRENCY).collect().await
}

async fn own_one(kube: &Kube, right: &Right) -> Sight<bool> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes(right)),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(kube.client());
    let params = PostParams::default();
    let ask = Right::new("create", GROUP, "selfsubjectaccessreviews");
    let answer = see(ask, api.create(&params, &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Which of these rights a service account has. Who may not ask for the first of them may not ask for any.
pub(super) async fn account(
    kube: &Kube,
    namespace: &str,
    name: &str,
    needed: Vec<Needed>,
) -> Vec<(Needed, Sight<bool>)> {
    let mut needed = needed.into_iter();
    let Some(first) = needed.next() else {
        return Vec::new();
    };
    let may = account_one(kube, namespace, name, &first.right).await;
    let refused = may.is_err();
    let mut all = vec![(first, may)];
    if !refused {
        let asked = needed.map(|needed| async move {
            let may = account_one(kube, namespace, name, &needed.right).await;
            (needed, may)
        });
        let rest: Vec<_> = stream::iter(asked).buffered(CONCURRENCY).collect().await;
        all.extend(rest);
    }
    all
}

async fn account_one(kube: &Kube, namespace: &str, name: &str, right: &Right) -> Sight<bool> {
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{name}")),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(attributes(right)),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(kube.client());
    let params = PostParams::default();
    let ask = Right::new("create", GROUP, "subjectaccessreviews");
    let answer = see(ask, api.create(&params, &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn attributes(right: &Right) -> ResourceAttributes {
    ResourceAttributes {
        verb: Some(right.verb.clone()),
        group: Some(right.group.clone()),
        resource: Some(right.resource.clone()),
        name: right.name.clone(),
        namespace: right.namespace.clone(),
        ..ResourceAttributes::default()
    }
}
