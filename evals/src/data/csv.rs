//! Comma-separated fields (RFC 4180): quoted where they hold commas, quotes or line ends.

/// Fields, and the line they begin on.
pub(super) type Record = (usize, Vec<String>);

/// All records. What is wrong comes with its line.
pub(super) fn records(text: &str) -> Result<Vec<Record>, (usize, String)> {
    let mut records = Vec::new();
    let mut fields = Vec::new();
    let mut rest = text;
    let (mut line, mut begins_on) = (1, 1);
    while !rest.is_empty() {
        let (field, after) = if rest.starts_with('"') {
            quoted(rest).map_err(|what| (line, what.to_owned()))?
        } else {
            let end = rest.find([',', '\n']).unwrap_or(rest.len());
            (rest[..end].trim_end_matches('\r').to_owned(), &rest[end..])
        };
        line += field.matches('\n').count();
        fields.push(field);
        let after = after.strip_prefix('\r').unwrap_or(after);
        if let Some(more) = after.strip_prefix(',') {
            rest = more;
            if rest.is_empty() {
                fields.push(String::new());
            }
        } else if after.is_empty() || after.starts_with('\n') {
            rest = after.strip_prefix('\n').unwrap_or(after);
            records.push((begins_on, std::mem::take(&mut fields)));
            line += 1;
            begins_on = line;
        } else {
            return Err((line, "text behind a closing quote".to_owned()));
        }
    }
    if !fields.is_empty() {
        records.push((begins_on, fields));
    }
    Ok(records)
}

/// A quoted field that `text` begins with, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = &text[1..];
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote is never closed")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, after)),
        }
    }
}
