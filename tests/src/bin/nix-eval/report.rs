//! What has come of it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::json;

use crate::evaluate::Row;

/// An array of objects: `name`, `ok`, `value` or `error`, `took_s`.
pub(crate) fn json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let took_s = row.took.as_secs_f64();
            match &row.value {
                Ok(value) => {
                    json!({ "name": row.name, "ok": true, "value": value, "took_s": took_s })
                }
                Err(why) => {
                    json!({ "name": row.name, "ok": false, "error": why, "took_s": took_s })
                }
            }
        })
        .collect();
    serde_json::Value::from(rows).to_string()
}

/// Every output with what it is, what is wrong with the others, and a sum by kind.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let value = row.value.as_deref().unwrap_or("FAILED");
        let _ = writeln!(text, "{:width$}  {value}", row.name);
    }
    for row in rows {
        if let Err(why) = &row.value {
            let _ = write!(text, "\n{}:\n    {}\n", row.name, why.replace('\n', "\n    "));
        }
    }
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in rows {
        let kind = row.name.split('.').next().unwrap_or_default();
        let (good, all) = kinds.entry(kind).or_default();
        *good += usize::from(row.value.is_ok());
        *all += 1;
    }
    text.push('\n');
    for (kind, (good, all)) in kinds {
        let _ = writeln!(text, "{kind}: {good} of {all} evaluate");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rows() -> [Row; 2] {
        let row =
            |name: &str, value| Row { name: name.into(), value, took: Duration::from_millis(1500) };
        [
            row("checks.a.vm", Err("no such package\nat x.nix".into())),
            row("modules.quiet", Ok("as expected".into())),
        ]
    }

    #[test]
    fn a_table_has_every_output_and_why_one_failed() {
        let expected = "\
checks.a.vm    FAILED
modules.quiet  as expected

checks.a.vm:
    no such package
    at x.nix

checks: 0 of 1 evaluate
modules: 1 of 1 evaluate";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn json_has_the_same() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&rows())).unwrap();
        assert_eq!(parsed[0]["ok"], false);
        assert_eq!(parsed[0]["error"], "no such package\nat x.nix");
        assert_eq!(parsed[1]["value"], "as expected");
        assert_eq!(parsed[1]["took_s"], 1.5);
    }
}
