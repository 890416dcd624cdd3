//! The page's files, as they were when this was built.

/// One file.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Below the page's address.
    pub(crate) path: &'static str,
    /// Its media type.
    pub(crate) kind: &'static str,
    pub(crate) bytes: &'static [u8],
}

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! assets {
    ($($kind:ident { $($path:literal)* })*) => {
        &[$($(Asset {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("../page/", $path)),
        },)*)*]
    };
}

/// The page itself, with `{{nonce}}` where the nonce for styles belongs.
pub(crate) const PAGE: &str = include_str!("../page/index.html");

const SVG: &str = "image/svg+xml";

/// All others.
const ASSETS: &[Asset] = assets! {
    SVG { "icon.svg" }
    CSS { "style.css" "parts.css" "vendor/xterm.css" }
    SCRIPT {
        "main.js" "api.js" "dom.js" "router.js" "keys.js" "format.js"
        "views/environments.js" "views/processes.js" "views/start.js" "views/terminal.js" "views/log.js"
        "views/files.js" "views/forwards.js" "views/links.js" "views/logs.js" "views/signin.js" "views/tabs.js"
        "terminal/link.js" "terminal/quiet.js" "terminal/screen.js" "terminal/theme.js"
        "vendor/xterm.mjs" "vendor/addon-fit.mjs" "vendor/addon-search.mjs"
    }
};

/// The file of this path.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// What was published on npm: @xterm/xterm 6.0.0, @xterm/addon-fit 0.11.0, @xterm/addon-search 0.16.0.
    const PUBLISHED: [(&str, &str); 4] = [
        ("vendor/xterm.mjs", "b336ec65a086c056d4804b3d4c2347da5663d3f23c3f25be866467bd8857ad59"),
        ("vendor/xterm.css", "854a7c0fb70e8b1a083c16797ab827299fb18744f5ad34f227b48337e33293c6"),
        ("vendor/addon-fit.mjs", "2d87e1bddc73be9111de8beee5370c3bb7aac9c94e18e6f245f02ca741ef1769"),
        ("vendor/addon-search.mjs", "3ea90162233f867b938cd29b8ad98f589643436bbb5445bd11b825dc99ff0c04"),
    ];

    #[test]
    fn what_others_made_is_as_they_published_it() {
        for (path, hash) in PUBLISHED {
            assert_eq!(hex::encode(Sha256::digest(find(path).unwrap().bytes)), hash, "{path}");
        }
        let vendored = ASSETS.iter().filter(|asset| asset.path.starts_with("vendor/"));
        assert_eq!(vendored.count(), PUBLISHED.len());
    }

    #[test]
    fn nothing_of_ours_names_another_host() {
        let ours = ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/"));
        for (path, text) in
            ours.map(|asset| (asset.path, asset.bytes)).chain([("index.html", PAGE.as_bytes())])
        {
            let text = String::from_utf8_lossy(text).replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"),
                "{path}"
            );
        }
    }
}
