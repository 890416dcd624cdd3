//! Opens the user's browser, without waiting for it and without its output.

/// Browsers that would take over our own terminal.
const TEXT_BROWSERS: [&str; 10] =
    ["curl", "elinks", "eww", "links", "links2", "lynx", "netrik", "retawq", "w3m", "www-browser"];

/// Opens a URL in the browser that `BROWSER` or the desktop names. Failure means that the user has to do it by hand,
/// as the prompt says.
pub(super) fn open(url: &str) {
    if names_text_browser(&std::env::var("BROWSER").unwrap_or_default()) {
        return;
    }
    let url = url.to_owned();
    // Finding the desktop's browser runs other programs and may take its time. Nobody waits for this thread.
    let opener = std::thread::Builder::new().name("browser".to_owned());
    let _ = opener.spawn(move || {
        if let Err(error) = webbrowser::open(&url) {
            tracing::info!(%error, "no browser was opened");
        }
    });
}

/// Whether `BROWSER`, a list of command lines, names a text browser.
fn names_text_browser(variable: &str) -> bool {
    variable.split(':').filter_map(|command| command.split_whitespace().next()).any(|program| {
        let name = program.rsplit('/').next().unwrap_or(program);
        TEXT_BROWSERS.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::names_text_browser;

    #[test]
    fn a_text_browser_is_known_by_its_name() {
        let cases = [
            ("", false),
            ("firefox", false),
            ("/usr/bin/lynx", true),
            ("firefox:w3m %s", true),
            ("/opt/lynx/firefox", false),
            ("  ", false),
        ];
        for (variable, expected) in cases {
            assert_eq!(names_text_browser(variable), expected, "{variable:?}");
        }
    }
}
