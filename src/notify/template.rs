//! The body of a webhook: a Jinja template over the facts. It has no files to include, no macros, and bounded work.

use chrono::DateTime;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::error::NotifyError;
use super::notice::{Notice, NoticeEvent};

/// Steps of a template, far above those of any useful one.
const FUEL: u64 = 200_000;
const MAX_TEMPLATE_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 50;

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
    let at = DateTime::UNIX_EPOCH.fixed_offset();
    let notice = Notice::start("host \"1\"", Some("id"), at, "/backups");
    for event in [NoticeEvent::Start, NoticeEvent::Failure, NoticeEvent::Test] {
        rendered(template, &Notice { event, ..notice.clone() }, is_json)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

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
    fn work_is_bounded_and_no_file_is_read() {
        assert!(
            why("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", false)
                .contains("fuel")
        );
        assert!(why("{% include '/etc/passwd' %}", false).contains("error"));
        assert!(why(&"x".repeat(100_000), false).contains("more than"));
    }
}
