//! The tools for files: read, write, edit.

use base64_simd::STANDARD;
use codex_exec_protocol::filesystem::{CreateDirectoryParams, ReadFileParams, WriteFileParams, WriteMode};
use serde::Deserialize;
use serde_json::json;

use super::call::Call;
use crate::environments::Connected;
use crate::outcome::{Outcome, Refused};
use crate::places::Place;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadArgs {
    path: String,
    offset: Option<u64>,
    limit: Option<u64>,
    max_bytes: Option<u64>,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteArgs {
    path: String,
    content: String,
    #[serde(default)]
    create_directories: bool,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditArgs {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    replace_all: bool,
    environment: Option<String>,
}

/// Lines of a text from one on, as many as fit.
struct Lines {
    text: String,
    /// The number of the first, from 1.
    first: usize,
    /// How many there are in all.
    total: usize,
    /// The number of the next one that is not shown; none at the end.
    next: Option<usize>,
}

pub(crate) async fn read(call: &Call<'_>, args: ReadArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, &args.path, false).await?;
    let bytes = content(call, &there, &place).await?;
    let size = bytes.len();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.as_bytes().contains(&0) => {
            return Err(Refused(format!(
                "{} is no text: {size} bytes, with NULs among them; look at it with a program such as file or xxd",
                place.path.display()
            )));
        }
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let most = call.lender.limits.shown(args.max_bytes);
    let from = args.offset.map_or(1, |offset| usize::try_from(offset).unwrap_or(usize::MAX)).max(1);
    let count = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let shown = lines(&text, from, count, most);
    let mut told = shown.text.clone();
    if let Some(next) = shown.next {
        told.push_str(&format!(
            "\n[… lines {next} to {} not shown; go on with offset {next} …]\n",
            shown.total
        ));
    }
    let data = json!({
        "path": place.path, "content": shown.text, "first_line": shown.first, "total_lines": shown.total,
        "next_offset": shown.next, "size_bytes": size,
    });
    Ok(Outcome { text: told, data })
}

/// Whole lines from number `from`, at most `count` and `most` bytes; of a first line that is longer, what fits.
fn lines(text: &str, from: usize, count: usize, most: usize) -> Lines {
    let total = text.split_inclusive('\n').count();
    let mut shown = String::new();
    let mut next = None;
    for (index, line) in text.split_inclusive('\n').enumerate().skip(from - 1) {
        if index + 1 - from >= count || shown.len() + line.len() > most {
            next = Some(index + 1);
            if shown.is_empty() && count > 0 {
                let end = (0..=most).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
                shown.push_str(line.get(..end).unwrap_or_default());
                shown.push_str(&format!("[… {} bytes of this line not shown …]\n", line.len() - end));
                next = Some(index + 2).filter(|next| *next <= total);
            }
            break;
        }
        shown.push_str(line);
    }
    Lines { text: shown, first: from, total, next }
}

/// What stands in a file, if it is not too large.
async fn content(call: &Call<'_>, there: &Connected, place: &Place) -> Result<Vec<u8>, Refused> {
    let metadata = place.metadata(there).await?;
    let most = call.lender.limits.file;
    if metadata.is_directory {
        return Err(Refused(format!("{} is a directory; list shows what is in it", place.path.display())));
    }
    if metadata.size > most {
        return Err(Refused(format!(
            "{} has {} bytes, more than the {most} that are read at once; take parts of it with a program such as sed, \
             head or tail",
            place.path.display(),
            metadata.size
        )));
    }
    let params = ReadFileParams {
        follow_symlinks: place.follow_symlinks,
        sandbox: place.sandbox.clone(),
        ..ReadFileParams::whole(place.wire())
    };
    Ok(there.environment().files.read_file(params).await?.data.0)
}

pub(crate) async fn write(call: &Call<'_>, args: WriteArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, &args.path, true).await?;
    if args.create_directories
        && let Some(parent) = place.path.parent()
    {
        let params = CreateDirectoryParams {
            path: parent.to_owned().into(),
            recursive: Some(true),
            follow_symlinks: place.follow_symlinks,
            sandbox: place.sandbox.clone(),
        };
        there.environment().files.create_directory(params).await?;
    }
    put(&there, &place, args.content.as_bytes()).await?;
    let bytes = args.content.len();
    Ok(Outcome {
        text: format!("{}: {bytes} bytes written", place.path.display()),
        data: json!({"path": place.path, "bytes": bytes}),
    })
}

async fn put(there: &Connected, place: &Place, bytes: &[u8]) -> Result<(), Refused> {
    let params = WriteFileParams {
        path: place.wire(),
        data_base64: STANDARD.encode_to_string(bytes),
        mode: WriteMode::Truncate,
        follow_symlinks: place.follow_symlinks,
        sandbox: place.sandbox.clone(),
    };
    there.environment().files.write_file(params).await?;
    Ok(())
}

pub(crate) async fn edit(call: &Call<'_>, args: EditArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, &args.path, false).await?;
    if args.old.is_empty() || args.old == args.new {
        return Err(Refused::because("old must be some text, and new another; write makes a whole file"));
    }
    let text = String::from_utf8(content(call, &there, &place).await?)
        .map_err(|_| Refused(format!("{} is no UTF-8 text", place.path.display())))?;
    let places = text.matches(&args.old).count();
    let line = text.find(&args.old).map(|at| text.get(..at).unwrap_or_default().matches('\n').count() + 1);
    let (Some(line), true) = (line, places == 1 || args.replace_all) else {
        return Err(Refused(match places {
            0 => format!("old does not stand in {}; read it again, white space counts", place.path.display()),
            _ => format!(
                "old stands {places} times in {}; give more of the text around it, or replace_all: true",
                place.path.display()
            ),
        }));
    };
    let edited = text.replace(&args.old, &args.new);
    put(&there, &place, edited.as_bytes()).await?;
    let how_often = if places == 1 { "1 place".to_owned() } else { format!("{places} places") };
    Ok(Outcome {
        text: format!("{}: edited at {how_often}, first at line {line}", place.path.display()),
        data: json!({"path": place.path, "replacements": places, "first_line": line, "bytes": edited.len()}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole_and_what_is_left_has_a_number() {
        let text = "one\ntwo\nthree\nfour";
        for (from, count, most, shown, next) in [
            (1, 100, 100, "one\ntwo\nthree\nfour", None),
            (2, 2, 100, "two\nthree\n", Some(4)),
            (1, 100, 8, "one\ntwo\n", Some(3)),
            (3, 100, 3, "thr[… 3 bytes of this line not shown …]\n", Some(4)),
            (4, 100, 2, "fo[… 2 bytes of this line not shown …]\n", None),
            (9, 100, 100, "", None),
            (1, 0, 100, "", Some(1)),
        ] {
            let found = lines(text, from, count, most);
            assert_eq!((found.text.as_str(), found.next), (shown, next), "{from} {count} {most}");
            assert_eq!(found.total, 4);
        }
        assert_eq!(lines("äö", 1, 9, 3).text, "ä[… 2 bytes of this line not shown …]\n");
    }
}
