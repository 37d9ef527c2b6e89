//! The body of a webhook: a Jinja template over the facts. It has no files to include, no macros, and bounded work.

use chrono::DateTime;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::error::NotifyError;
use super::notice::{Notice, NoticeEvent, NoticeVolume};

/// Steps of a template, far above those of any useful one.
const FUEL: u64 = 200_000;
const MAX_TEMPLATE_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 50;

/// Whether bodies of this type are JSON: `application/json`, or a type with the suffix `+json` (RFC 6839), in any case.
pub(super) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// The body. If it `is_json`, each printed value is written as JSON, and the whole must be JSON.
pub(super) fn rendered(template: &str, notice: &Notice, is_json: bool) -> Result<String, NotifyError> {
    let wrong = |why: String| NotifyError::Template { why };
    if template.len() > MAX_TEMPLATE_BYTES {
        return Err(wrong(format!("it has more than {MAX_TEMPLATE_BYTES} bytes")));
    }
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(move |_| if is_json { AutoEscape::Json } else { AutoEscape::None });
    let body = environment
        .render_named_str("body", template, Serde(notice))
        // The second form has the place and the cause.
        .map_err(|error| wrong(crate::error::with_causes(&error)))?;
    if body.len() > MAX_BODY_BYTES {
        return Err(wrong(format!("the body has more than {MAX_BODY_BYTES} bytes")));
    }
    if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
        let what = "the body is no JSON; values are printed as JSON, so write {{ subject }} without quotes";
        return Err(wrong(format!("{what}: {error}")));
    }
    Ok(body)
}

/// Tries a template with the facts of each event.
pub(super) fn check(template: &str, is_json: bool) -> Result<(), NotifyError> {
    for event in [NoticeEvent::Start, NoticeEvent::Failure, NoticeEvent::Test] {
        rendered(template, &example(event), is_json)?;
    }
    Ok(())
}

/// Tries a template with the facts of nights of two volumes: a loop over none hides its mistakes.
pub(super) fn check_with_volumes(template: &str, is_json: bool) -> Result<(), NotifyError> {
    let volume = |name: &str, outcome, why: Option<&str>| NoticeVolume {
        name: name.to_owned(),
        group: Some("vg0".to_owned()),
        outcome,
        why: why.map(str::to_owned),
        archive_bytes: why.is_none().then_some(1),
        duration_seconds: 1,
    };
    for event in [NoticeEvent::Ok, NoticeEvent::Warning, NoticeEvent::Failure] {
        let volumes = vec![volume("volume-1", event, None), volume("volume-2", event, Some("why \"1\""))];
        let problems = vec!["volume-1: a problem".to_owned(), "volume-2: another".to_owned()];
        rendered(template, &Notice { volumes, problems, ..example(event) }, is_json)?;
    }
    Ok(())
}

fn example(event: NoticeEvent) -> Notice {
    let start = Notice::start("host \"1\"", Some("id"), DateTime::UNIX_EPOCH.fixed_offset(), "/backups");
    Notice { event, ..start }
}

#[cfg(test)]
mod tests {
    use super::{check, check_with_volumes, is_json};

    fn why(template: &str, is_json: bool) -> String {
        check(template, is_json).unwrap_err().to_string()
    }

    #[test]
    fn values_are_escaped_for_json_and_mistakes_are_found_early() {
        check(r#"{"text": {{ subject }}, "list": {{ volumes }}, "n": {{ volumes|length }}}"#, true).unwrap();
        check("{% for volume in volumes %}{{ volume.name }}{% endfor %}{{ text }}", false).unwrap();
        assert!(why(r#"{"text": "{{ subject }}"}"#, true).contains("without quotes"));
        assert!(why("{{ sbject }}", false).contains("undefined"));
        assert!(why("{% if %}", false).contains("syntax error"));
    }

    #[test]
    fn mistakes_that_only_a_night_with_volumes_reaches_are_found() {
        let looped = |within: &str| format!("[{{% for volume in volumes %}}{within}{{% endfor %}}]");
        let why = |template: &str, is_json| check_with_volumes(template, is_json).unwrap_err().to_string();
        assert!(why(&looped("{{ volume.nme }}"), false).contains("undefined"));
        assert!(why(&looped("{{ volume.name }},"), true).contains("no JSON"), "a comma after the last one");
        assert!(why("{% if event == 'warning' %}{{ problem }}{% endif %}", false).contains("undefined"));
        check_with_volumes(&looped("{{ volume.why }}{% if not loop.last %},{% endif %}"), true).unwrap();
    }

    #[test]
    fn a_type_with_the_suffix_json_is_json() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert!(is_json(yes), "{yes}");
        }
        for no in ["text/plain", "application/jsonlines", "application/x-www-form-urlencoded", ""] {
            assert!(!is_json(no), "{no}");
        }
    }

    #[test]
    fn work_is_bounded_and_no_file_is_read() {
        assert!(
            why("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", false)
                .contains("fuel")
        );
        assert!(why("{% include '/etc/passwd' %}", false).contains("error"));
        assert!(why(&"x".repeat(100_000), false).contains("more than"));
    }
}
