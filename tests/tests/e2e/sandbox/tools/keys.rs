//! Databases, keys and what asks for another user.

use super::*;

#[tokio::test]
async fn databases_and_keys_are_made_in_the_workspace() {
    check(
        &[
            Row {
                name: "sqlite3",
                needs: &["sqlite3"],
                script: "sqlite3 d.db 'pragma journal_mode=wal; create table t(x); insert into t values(42); select \"row \" || x from t;' && \
                         sqlite3 d.db 'select count(*) from t'",
                says: Says::Always("row 42"),
            },
            Row {
                name: "ssh-keygen",
                needs: &["ssh-keygen"],
                script: "ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -lf key.pub",
                says: Says::Always("ED25519"),
            },
            Row {
                name: "openssl",
                needs: &["openssl"],
                script: "openssl genpkey -algorithm ed25519 -out k.pem && openssl pkey -in k.pem -noout -text",
                says: Says::Always("ED25519"),
            },
            Row {
                name: "gpg",
                needs: &["gpg"],
                script: "gpg --version",
                says: Says::Always("gpg (GnuPG)"),
            },
            Row {
                name: "keys of gpg",
                needs: &["gpg"],
                // They are made by an agent, which is reached by a socket with a name.
                script: "mkdir -m 700 g && gpg --homedir $PWD/g --batch --passphrase '' --quick-gen-key me@here ed25519 && \
                         gpg --homedir $PWD/g -k me@here",
                says: Says::Always("ultimate"),
            },
        ],
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn what_makes_one_another_user_is_refused_with_a_word() {
    check(
        &[
            Row {
                name: "sudo",
                needs: &["sudo"],
                // Nothing that is executed gets more rights than the program has.
                script: "sudo -n true 2>&1; echo code $?",
                says: Says::Always("code 1"),
            },
            Row {
                name: "mount",
                needs: &["mount"],
                script: "mkdir -p m; mount -t tmpfs none m 2>&1; echo code $?",
                says: Says::Always("code 32"),
            },
        ],
        |_| {},
    )
    .await;
}
