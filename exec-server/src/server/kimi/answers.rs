//! Our answers in Kimi Code's words.

use codex_exec_protocol::{RpcError, WireEncode, kimi};
use rustix::io::Errno;

use crate::environment::machine::Reply;
use crate::server::answer::{AnswerSlot, tell};

/// What a request was about: by it clients of this dialect sort errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A file.
    File,
    /// The start of a program.
    Program,
    /// Something whose errors are not sorted.
    Other,
}

impl Subject {
    /// The word for an error.
    fn domain_code(self, error: &RpcError) -> Option<&'static str> {
        let known = |errno: Errno| error.os_error == Some(errno.raw_os_error());
        match self {
            Self::Other => None,
            Self::Program => Some("os.process.spawn_failed"),
            Self::File if known(Errno::NOENT) => Some("os.fs.not_found"),
            Self::File if known(Errno::ISDIR) => Some("os.fs.is_directory"),
            Self::File if known(Errno::NOTDIR) => Some("os.fs.not_directory"),
            Self::File if known(Errno::EXIST) => Some("os.fs.already_exists"),
            Self::File if known(Errno::ACCESS) || known(Errno::PERM) => Some("os.fs.permission_denied"),
            Self::File if known(Errno::NOTEMPTY) => Some("os.fs.not_empty"),
            Self::File => Some("os.fs.unknown"),
        }
    }
}

/// Where the answer to a request of this dialect goes: `say` puts it into its words.
pub(super) struct Spoken<R, K> {
    answer: AnswerSlot,
    subject: Subject,
    say: fn(Result<R, RpcError>) -> Result<K, RpcError>,
}

impl<R, K> Spoken<R, K> {
    pub(super) fn new(
        answer: AnswerSlot,
        subject: Subject,
        say: fn(Result<R, RpcError>) -> Result<K, RpcError>,
    ) -> Self {
        Self { answer, subject, say }
    }
}

impl<R: 'static, K: WireEncode + 'static> Reply<R> for Spoken<R, K> {
    fn answer(self, result: Result<R, RpcError>) {
        self.answer_holding(result, ());
    }

    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static) {
        let Self { answer, subject, say } = self;
        match say(result) {
            Ok(said) => answer.answer_holding(Ok(said), hold),
            Err(error) => {
                let AnswerSlot { outbox, id, in_flight: _in_flight, observed } = answer;
                let bytes = outbox.put(|frame| {
                    let word = subject.domain_code(&error);
                    frame.message(256, |out| kimi::encode_failure(&id, &error, word, out));
                });
                tell(observed, Some(error.code), bytes);
            }
        }
    }

    fn is_gone(&self) -> bool {
        Reply::<K>::is_gone(&self.answer)
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn room(&self) {
        self.answer.outbox.room().await;
    }
}
