//! Promise: docs/schemas says what the plans and reports of a recovery have. (Tests that are marked `ignore` compare real ones.)

use serde_json::{Value, json};
use volbak::run::cloud::recover::evacuate::{Evacuated, EvacuationPlan, EvacuationReport};
use volbak::run::cloud::recover::{Outcome, Plan, RecoverReport, StepResult};

use crate::testkit::schema::compare;

fn named(name: &str) -> Value {
    json!({ "id": format!("id-{name}"), "name": name })
}

/// A plan with each action, each with all that it can have.
fn plan() -> Value {
    let (volume, instance) = (named("data"), named("web"));
    let step = |action: &str, more: Value| {
        let mut step = json!({ "action": action, "why": "why" });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let both = json!({ "volume": volume, "instance": instance });
    let finding = json!({ "volume": volume, "instance": instance, "what": "what" });
    json!({
        "format": 1, "cloud": "admin", "instance": instance, "outage": "2026-11-20T01:00:00Z",
        "saved_map": "2026-11-20T00:00:00Z", "from_map": true, "stops": ["nova does not answer"],
        "steps": [
            step("keep_attached", json!({ "volume": volume })),
            step("delete_attachment", json!({ "volume": volume, "attachment": "a", "instance": instance })),
            step("release", both.clone()),
            step("free_wedge", both.clone()),
            step("restart", json!({ "instance": instance })),
            step("attach", json!({ "volume": volume, "instance": instance, "device": "/dev/vdb" })),
            step("reboot_inside", json!({ "instance": { "id": "id-without-name" }, "address": "10.0.0.1" })),
        ],
        "unclear": [finding], "notes": [{ "what": "what" }], "volumes_right": ["v"], "instances_right": ["i"],
    })
}

#[test]
fn plans_and_reports_of_a_recovery_are_what_the_schemas_say() {
    let plan: Plan = serde_json::from_value(plan()).unwrap();
    let again = serde_json::to_value(&plan).unwrap();
    assert_eq!(again, self::plan());
    compare(&again, "cloud-recover-plan");

    let outcomes = [Outcome::Done, Outcome::AlreadySo, Outcome::NotDone, Outcome::Failed];
    let results = plan.steps.iter().zip(outcomes.into_iter().cycle());
    let report = RecoverReport {
        cloud: plan.cloud.clone(),
        started_at: plan.outage.unwrap(),
        duration_seconds: 1,
        was_resumed: true,
        was_interrupted: false,
        steps: results
            .map(|(step, outcome)| StepResult { action: step.action.clone(), outcome, what: "why".to_owned() })
            .collect(),
        aborted: Some("why".to_owned()),
        left: plan.steps.clone(),
        unclear: plan.unclear.clone(),
        notes: plan.notes.clone(),
        doubts: vec!["doubt".to_owned()],
    };
    compare(&with_format(&report), "cloud-recover");
    let text = report.text();
    assert!(text.contains("An earlier call of this recovery left something to do or to look at. Proceed..."), "{text}");
    assert!(RecoverReport { was_interrupted: true, ..report }.text().contains("recovery was interrupted. Proceed"));
}

#[test]
fn plans_and_reports_of_an_evacuation_are_what_the_schemas_say() {
    let sample = json!({
        "format": 1, "cloud": "admin", "host": "compute-1", "to": "compute-2", "stops": ["why"], "force_down": true,
        "instances": [named("web")],
        "kept": [{ "instance": named("db"), "why": "why", "volumes": [
            { "volume": named("data"), "backup": "volume-1@2026-11-20" }, { "volume": named("log") },
        ] }],
    });
    let plan: EvacuationPlan = serde_json::from_value(sample.clone()).unwrap();
    assert_eq!(serde_json::to_value(&plan).unwrap(), sample);
    compare(&sample, "cloud-evacuate-plan");

    let evacuated = |host: Option<&str>, what: &str| Evacuated {
        instance: plan.instances[0].clone(),
        outcome: Outcome::Done,
        host: host.map(str::to_owned),
        what: what.to_owned(),
    };
    let report = EvacuationReport {
        cloud: plan.cloud.clone(),
        host: plan.host.clone(),
        started_at: "2026-11-20T01:00:00Z".parse().unwrap(),
        duration_seconds: 1,
        was_resumed: false,
        was_interrupted: false,
        forced_down: true,
        instances: vec![evacuated(Some("compute-2"), ""), evacuated(None, "why")],
        kept: plan.kept.clone(),
        aborted: Some("why".to_owned()),
        doubts: vec!["doubt".to_owned()],
    };
    compare(&with_format(&report), "cloud-evacuate");
}

/// As the program prints it.
fn with_format(value: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap();
    value["format"] = 1.into();
    value
}
