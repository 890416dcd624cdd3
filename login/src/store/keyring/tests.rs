//! Tests of `keyring` that need none.

use super::*;

#[test]
fn the_account_is_the_hash_of_the_home() {
    for (home, wanted) in
        [("/home/dev/.codex", "cli|252ac2d3c7e8f134"), ("/srv/codex-home", "cli|e07f670c5f381ee6")]
    {
        assert_eq!(account(Path::new(home)), wanted);
    }
}
