//! The few Python methods that chat templates call on strings and maps.
//!
//! Templates are written for Python's Jinja, where `content.strip()` is the
//! string's own method. Anything not listed here is an error that names it.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Longest result of `replace`, in bytes.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// Calls `method` on `value`.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return call_on_text(text, method, args);
    }
    match (value.kind(), method) {
        (ValueKind::Map, "items" | "keys" | "values") => {
            let () = from_args(args)?;
            match method {
                "items" => state.apply_filter("items", std::slice::from_ref(value)),
                "keys" => Ok(value.try_iter()?.collect()),
                _ => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
            }
        }
        (ValueKind::Map, "get") => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        _ => Err(unknown(method)),
    }
}

fn unknown(method: &str) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("no method `{method}`"))
}

fn call_on_text(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Ok(Value::from(strip(text, method, chars)))
        }
        "startswith" | "endswith" => {
            let (affix,): (&str,) = from_args(args)?;
            let starts = method == "startswith";
            Ok(Value::from(if starts { text.starts_with(affix) } else { text.ends_with(affix) }))
        }
        "upper" | "lower" | "capitalize" | "title" => {
            let () = from_args(args)?;
            Ok(Value::from(recase(text, method)))
        }
        "split" => {
            let (separator,): (Option<&str>,) = from_args(args)?;
            Ok(match separator {
                Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                Some(separator) => text.split(separator).collect(),
                None => text.split_whitespace().collect(),
            })
        }
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            let grown = text.len().saturating_add(1).saturating_mul(to.len().max(1));
            if grown > RESULT_BYTES_MAX.max(text.len() + 1) {
                return Err(Error::new(ErrorKind::InvalidOperation, "the result is too long"));
            }
            Ok(Value::from(text.replace(from, to)))
        }
        _ => Err(unknown(method)),
    }
}

fn strip<'a>(text: &'a str, method: &str, chars: Option<&str>) -> &'a str {
    let gone = |char: char| match chars {
        Some(chars) => chars.contains(char),
        None => char.is_whitespace(),
    };
    match method {
        "lstrip" => text.trim_start_matches(gone),
        "rstrip" => text.trim_end_matches(gone),
        _ => text.trim_matches(gone),
    }
}

fn recase(text: &str, method: &str) -> String {
    match method {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        _ => {
            let mut at_start = true;
            let mut out = String::new();
            for char in text.chars() {
                if at_start {
                    out.extend(char.to_uppercase());
                } else {
                    out.extend(char.to_lowercase());
                }
                at_start = method == "title" && !char.is_alphanumeric();
            }
            out
        }
    }
}
