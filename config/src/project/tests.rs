//! Which project's configuration counts, and when it is trusted.

use super::*;
use crate::testing::{Machine, pipe, repository};

/// The trusted files, relative to the machine's root, with this configuration.
fn files(machine: &Machine, config: &str) -> Vec<String> {
    let config = toml::from_str(&config.replace('$', machine.root.to_str().unwrap())).unwrap();
    trusted_files(&machine.cwd, &machine.root.join("home"), &config)
        .into_iter()
        .map(|path| path.strip_prefix(&machine.root).unwrap().display().to_string())
        .collect()
}

const TRUSTED: &str = "trust_level = 'trusted'\n";

fn trust(dirs: &[&str]) -> String {
    dirs.iter().map(|dir| format!("[projects.'$/{dir}']\n{TRUSTED}")).collect()
}

/// A working directory three levels down, each with a file of its own.
fn nested() -> Machine {
    let mut machine = Machine::new();
    machine.at("work/a/b");
    for dir in ["work", "work/a", "work/a/b"] {
        machine.write(&format!("{dir}/.codex/config.toml"), "");
    }
    machine
}

#[test]
fn files_go_from_the_projects_root_down_to_the_working_directory() {
    let machine = nested();
    repository(&machine.root.join("work"));
    let all = ["work/.codex/config.toml", "work/a/.codex/config.toml", "work/a/b/.codex/config.toml"];
    assert_eq!(files(&machine, &trust(&["work"])), all);
    assert_eq!(files(&machine, &trust(&["work/a/b"])), all[2..]);
    assert_eq!(
        files(&machine, &format!("{}[projects.'$/work/a']\ntrust_level = 'untrusted'", trust(&["work"]))),
        [all[0], all[2]]
    );
    assert_eq!(files(&machine, &format!("{}[projects.'$/work/a']\n", trust(&["work"]))), all);
    assert_eq!(files(&machine, ""), [""; 0]);
}

#[test]
fn what_counts_as_the_mark_of_a_root() {
    let here = "work/a/b/.codex/config.toml";
    let below = ["work/a/.codex/config.toml", here];
    let trusted = trust(&["work", "work/a", "work/a/b"]);
    for (make, config, wanted) in [
        ((|_| {}) as fn(&Path), "", &[here][..]),
        (|a| std::fs::create_dir(a.join(".git")).unwrap(), "", &[here]),
        (repository, "", &below),
        (|a| std::fs::write(a.join(".git"), "gitdir: /no/where\n").unwrap(), "", &below),
        (repository, "project_root_markers = ['.hg']\n", &[here]),
        (|a| std::fs::create_dir(a.join(".hg")).unwrap(), "project_root_markers = ['.git', '.hg']\n", &below),
        (repository, "project_root_markers = []\n", &[here]),
        (|_| {}, "project_root_markers = ['']\n", &[here]),
    ] {
        let machine = nested();
        make(&machine.root.join("work/a"));
        assert_eq!(files(&machine, &format!("{config}{trusted}")), wanted, "{config:?}");
    }
}

#[test]
fn the_home_directory_is_no_project() {
    let mut machine = Machine::new();
    machine.at("work");
    std::os::unix::fs::symlink(machine.root.join("home"), machine.root.join("work/.codex")).unwrap();
    assert_eq!(files(&machine, &trust(&["work"])), [""; 0]);
}

#[test]
fn trust_holds_for_the_path_as_written_and_without_symbolic_links() {
    let mut machine = Machine::new();
    machine.write("real/.codex/config.toml", "");
    std::os::unix::fs::symlink(machine.root.join("real"), machine.root.join("link")).unwrap();
    machine.cwd = machine.root.join("link");
    for trusted in ["link", "real", "real/"] {
        assert_eq!(files(&machine, &trust(&[trusted])), ["link/.codex/config.toml"], "{trusted}");
    }
    machine.cwd = machine.root.join("real");
    assert_eq!(files(&machine, &trust(&["link"])), [""; 0]);
}

#[test]
fn a_worktree_has_the_trust_of_its_main_repository_if_that_one_knows_it() {
    let mut machine = Machine::new();
    repository(&machine.root.join("main"));
    machine.at("tree/sub");
    machine.write("tree/.codex/config.toml", "");
    machine.write("main/.git/worktrees/tree/gitdir", "$/tree/.git\n");
    let one = ["tree/.codex/config.toml"];
    for pointer in ["gitdir: $/main/.git/worktrees/tree\n", "gitdir: ../main/.git/worktrees/tree"] {
        machine.write("tree/.git", pointer);
        assert_eq!(files(&machine, &trust(&["main"])), one);
        let untrusted = format!("{}[projects.'$/tree']\ntrust_level = 'untrusted'", trust(&["main"]));
        assert_eq!(files(&machine, &untrusted), [""; 0]);
    }
    machine.write("main/.git/worktrees/tree/gitdir", "$/elsewhere/.git\n");
    assert_eq!(
        files(&machine, &trust(&["main"])),
        [""; 0],
        "a directory can't claim to be somebody's worktree"
    );
    machine.write("tree/.git", "gitdir: $/main/.git/worktrees/nosuch\n");
    assert_eq!(files(&machine, &trust(&["main"])), [""; 0]);
    machine.write("tree/.git", "gitdir: $/main/.git\n");
    assert_eq!(files(&machine, &trust(&["main"])), [""; 0]);
}

#[test]
fn a_pipe_in_the_place_of_git_holds_nothing_up() {
    let machine = Machine::new();
    machine.write("work/.codex/config.toml", "");
    pipe(&machine.root.join("work/.git"));
    assert_eq!(files(&machine, &trust(&["main"])), [""; 0]);
}

#[test]
fn trust_can_be_given_on_the_command_line_and_an_empty_table_does_not_take_it_away() {
    let machine = Machine::new();
    machine.write("work/.codex/config.toml", "forced_login_method = 'api'");
    let taken = |dash_c: &[&str]| machine.load(dash_c).unwrap().forced_login_method.is_some();
    assert!(!taken(&[]));
    assert!(taken(&["projects={\"$/work\"={trust_level=\"trusted\"}}"]));
    machine.write("home/config.toml", &trust(&["work"]));
    assert!(taken(&["projects={}"]));
    assert!(!taken(&["projects={\"$/work\"={trust_level=\"untrusted\"}}"]));
}
