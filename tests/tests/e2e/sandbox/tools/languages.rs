//! Languages that are run from sources, and their packages.

use super::*;

/// A wheel of one module, a directory of links to it, and an npm package with its registry's answer.
fn packages(ground: &Ground) {
    let script = format!(
        r#"cd {served} && PATH=/usr/bin:/bin && python3 - <<'END'
import zipfile, os, io, tarfile, json, hashlib, base64
name = "small-1.0-py3-none-any.whl"
os.makedirs("simple/small")
with zipfile.ZipFile("simple/small/" + name, "w") as wheel:
    wheel.writestr("small.py", "word = 'hello from a wheel'\n")
    wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
    wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("small-1.0.dist-info/RECORD", "small.py,,\nsmall-1.0.dist-info/METADATA,,\nsmall-1.0.dist-info/WHEEL,,\nsmall-1.0.dist-info/RECORD,,\n")
open("simple/small/index.html", "w").write('<a href="%s">%s</a>' % (name, name))
with tarfile.open("little.tgz", "w:gz") as package:
    def add(path, text):
        info = tarfile.TarInfo("package/" + path)
        info.size = len(text)
        package.addfile(info, io.BytesIO(text.encode()))
    add("package.json", json.dumps({{"name": "little", "version": "1.0.0", "main": "index.js"}}))
    add("index.js", "module.exports = 'hello from a package'\n")
os.makedirs("npm")
bytes = open("little.tgz", "rb").read()
integrity = "sha512-" + base64.b64encode(hashlib.sha512(bytes).digest()).decode()
dist = {{"tarball": "http://{ELSEWHERE}/little.tgz", "integrity": integrity}}
version = {{"name": "little", "version": "1.0.0", "main": "index.js", "dist": dist}}
open("npm/little", "w").write(json.dumps({{"name": "little", "dist-tags": {{"latest": "1.0.0"}}, "versions": {{"1.0.0": version}}}}))
END
cp little.tgz {w} && cp simple/small/*.whl {w} && chown -R --reference={w} {w} {served}"#,
        served = ground.text("served"),
        w = ground.text("w")
    );
    let made = std::process::Command::new("sh").args(["-c", &script]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn python_makes_environments_and_installs_packages() {
    check(
        &[
            Row {
                name: "venv and pip",
                needs: &["python3"],
                // Without network there is no index to ask; files are installed all the same.
                script: "python3 -m venv v && v/bin/pip -q --disable-pip-version-check install --no-cache-dir ./*.whl && \
                         v/bin/python -c 'import small; print(small.word)'",
                says: Says::Closed("hello from a wheel"),
            },
            Row {
                name: "pip from an index",
                needs: &["python3"],
                script: "python3 -m venv i && i/bin/pip -q --disable-pip-version-check install --no-cache-dir \
                         --index-url $ELSEWHERE/simple --trusted-host packages.test small && \
                         i/bin/python -c 'import small; print(small.word)'",
                says: Says::Filtered("hello from a wheel"),
            },
        ],
        packages,
    )
    .await;
}

#[tokio::test]
async fn python_runs_many_processes() {
    check(
        &[
            Row {
                name: "multiprocessing",
                needs: &["python3"],
                script: "python3 -c 'import multiprocessing as m; p = m.Pool(3); print(\"sum\", sum(p.map(abs, range(-9, 9))))'",
                says: Says::Always("sum 81"),
            },
            Row {
                name: "processes that are spawned anew, with locks and shared memory",
                needs: &["python3"],
                script: "cat > many.py <<'END'\nimport multiprocessing as m\nfrom multiprocessing import shared_memory\n\
                         def work(lock, queue, name):\n    s = shared_memory.SharedMemory(name=name)\n    \
                         with lock: s.buf[0] += 1\n    queue.put(s.buf[0]); s.close()\n\
                         if __name__ == '__main__':\n    m.set_start_method('spawn')\n    \
                         s = shared_memory.SharedMemory(create=True, size=8)\n    lock, queue = m.Lock(), m.Queue()\n    \
                         all = [m.Process(target=work, args=(lock, queue, s.name)) for _ in range(2)]\n    \
                         [p.start() for p in all]; [queue.get() for p in all]; [p.join() for p in all]\n    \
                         print('counted', s.buf[0]); s.close(); s.unlink()\nEND\npython3 many.py",
                says: Says::Always("counted 2"),
            },
            Row {
                name: "tempfile and subprocess",
                needs: &["python3"],
                script: "python3 -c 'import tempfile, subprocess\nwith tempfile.NamedTemporaryFile() as f: f.write(b\"x\"); \
                         f.flush(); print(\"size\", subprocess.check_output([\"wc\", \"-c\", f.name]).split()[0])'",
                says: Says::Always("size b'1'"),
            },
        ],
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn node_installs_packages_and_runs_threads() {
    check(
        &[
            Row {
                name: "worker threads",
                needs: &["node"],
                script: "node -e 'const {Worker, isMainThread, parentPort} = require(\"worker_threads\"); \
                         const w = new Worker(\"require(`worker_threads`).parentPort.postMessage(6 * 7)\", {eval: true}); \
                         w.on(\"message\", m => console.log(\"worker says\", m))'",
                says: Says::Always("worker says 42"),
            },
            Row {
                name: "npm install of a file",
                needs: &["npm", "node"],
                // npm's cache is in the home, which the profile does not let be written; one in the workspace is.
                script: "mkdir f && cd f && npm install --cache ../.npm --offline --no-audit --no-fund ../little.tgz && \
                         node -p 'require(\"little\")'",
                says: Says::Always("hello from a package"),
            },
            Row {
                name: "npm install from a registry",
                needs: &["npm", "node"],
                script: "mkdir r && cd r && npm install --cache ../.npm --no-audit --no-fund --registry $ELSEWHERE/npm/ \
                         --replace-registry-host=always little && node -p 'require(\"little\")'",
                says: Says::Filtered("hello from a package"),
            },
        ],
        packages,
    )
    .await;
}

#[tokio::test]
async fn java_and_go_compile_and_run() {
    check(
        &[
            Row {
                name: "javac and java",
                needs: &["javac", "java"],
                script: "cat > Hello.java <<'END'\npublic class Hello {\n  public static void main(String[] a) throws Exception {\n\
                         var t = new Thread(() -> System.out.println(\"hello from java\")); t.start(); t.join();\n  }\n}\nEND\n\
                         javac Hello.java && java -Xshare:auto Hello",
                says: Says::Always("hello from java"),
            },
            Row {
                name: "go build",
                needs: &["go"],
                // Its cache is in the home, which the profile does not let be written; one in the workspace is.
                script: "export GOCACHE=$PWD/.cache GOPATH=$PWD/.go GOFLAGS=-mod=mod; mkdir g && cd g && \
                         printf 'package main\\nimport \"fmt\"\\nfunc main() { fmt.Println(\"hello from go\") }\\n' > main.go && \
                         go mod init small && go build -o small && ./small",
                says: Says::Always("hello from go"),
            },
        ],
        |_| {},
    )
    .await;
}
