//! Sources: version control, and what builds them.

use super::*;

#[tokio::test]
async fn git_works_in_the_workspace_and_clones_what_may_be_reached() {
    check(
        &[
            Row {
                name: "a repository of its own",
                needs: &["git"],
                script: "git init -q made && cd made && git config user.name n && git config user.email e@x && echo 1 > f && \
                         git add f && git commit -qm first && git status && git log --format=%s && git gc -q && git stash list",
                says: Says::Always("nothing to commit"),
            },
            Row {
                name: "status and diff of the workspace's own",
                needs: &["git"],
                script: "cd repository && echo 2 >> f && git status && git diff",
                says: Says::Always("modified:   f"),
            },
            Row {
                name: "clone of a directory",
                needs: &["git"],
                script: "git clone -q repository clone && cat clone/f",
                says: Says::Always("one"),
            },
            Row {
                name: "clone of a server",
                needs: &["git"],
                // Without network there is nobody to ask for the name.
                script: "git clone -q $ELSEWHERE/repository.git cloned 2>&1; cat cloned/f; true",
                says: Says::ByNetwork("resolve host", "one"),
            },
        ],
        |ground| {
            let script = format!(
                "cd {w} && git init -q repository && cd repository && git config user.name n && git config user.email e@x && \
                 echo one > f && git add f && git commit -qm first && \
                 git clone -q --bare . {served}/repository.git && cd {served}/repository.git && git update-server-info && \
                 chmod -R a+rX {served} && chown -R --reference={w} {w}/repository",
                w = ground.text("w"),
                served = ground.text("served")
            );
            let made = std::process::Command::new("sh").args(["-c", &script]).output().expect("it runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        },
    )
    .await;
}

#[tokio::test]
async fn a_repository_at_the_root_of_the_workspace_can_be_read_and_its_hooks_not_be_written() {
    check(
        &[
            Row {
                name: "status",
                needs: &["git"],
                script: "git status && git log --format=%s",
                says: Says::Always("first"),
            },
            Row {
                name: "commit",
                needs: &["git"],
                // Hooks and the configuration would run outside later; a profile that grants `.git` lets it be written.
                script: "echo 2 > f; git commit -qam second 2>&1; true",
                says: Says::Always("Read-only file system"),
            },
        ],
        |ground| {
            let script = format!(
                "cd {w} && owner=$(stat -c %u:%g .) && chown $(id -u):$(id -g) . && git init -q . && git config user.name n && git config user.email e@x && echo one > f && git add f && \
                 git commit -qm first && chown -R $owner .",
                w = ground.text("w")
            );
            let made = std::process::Command::new("sh").args(["-c", &script]).output().expect("it runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        },
    )
    .await;
}

/// Puts files into the workspace.
fn put(ground: &Ground, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = ground.at("w").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, text).expect("written");
    }
    let all = format!("chown -R --reference={w} {w}", w = ground.text("w"));
    assert!(std::process::Command::new("sh").args(["-c", &all]).status().expect("it runs").success());
}

#[tokio::test]
async fn compilers_and_build_tools_work() {
    check(
        &[
            Row {
                name: "gcc",
                needs: &["gcc"],
                script: "gcc -O1 -o hello c/hello.c && ./hello",
                says: Says::Always("hello from c"),
            },
            Row {
                name: "make -j",
                needs: &["make", "gcc"],
                script: "cd c && make -j4 2>&1 && ./many",
                says: Says::Always("hello from c"),
            },
            Row {
                name: "cmake",
                needs: &["cmake", "make", "gcc"],
                script: "cmake -S c -B built >/dev/null && cmake --build built -j2 >/dev/null && built/hello",
                says: Says::Always("hello from c"),
            },
        ],
        |ground| {
            put(
                ground,
                &[
                    ("c/hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello from c\"); return 0; }\n"),
                    ("c/one.c", "int one;\n"),
                    ("c/two.c", "int two;\n"),
                    ("c/Makefile", "many: hello.o one.o two.o\n\t$(CC) -o $@ $^\n"),
                    (
                        "c/CMakeLists.txt",
                        "cmake_minimum_required(VERSION 3.10)\nproject(hello C)\nadd_executable(hello hello.c)\n",
                    ),
                ],
            );
        },
    )
    .await;
}

#[tokio::test]
async fn rust_builds_and_tests() {
    check(
        &[
            Row {
                name: "rustc",
                needs: &["rustc"],
                script: "rustc -o hi crate/src/main.rs && ./hi",
                says: Says::Always("hello from rust"),
            },
            Row {
                name: "cargo build and test",
                needs: &["cargo"],
                script: "cd crate && cargo build -q && target/debug/small && cargo test -q 2>&1",
                says: Says::Always("test result: ok. 1 passed"),
            },
        ],
        |ground| {
            put(
                ground,
                &[
                    ("crate/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
                    (
                        "crate/src/main.rs",
                        "fn main() { println!(\"hello from rust\"); }\n#[test]\nfn adds() { assert_eq!(1 + 1, 2); }\n",
                    ),
                ],
            );
        },
    )
    .await;
}
