//! Tasks that end with whoever started them.

use tokio::task::{JoinHandle, spawn_local};

/// A task of this thread; dropping it ends the task.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(future))
    }

    /// Waits until it has ended.
    pub(crate) async fn over(&mut self) {
        if let Err(error) = (&mut self.0).await
            && error.is_panic()
        {
            tracing::error!("a task failed, please report this: {error}");
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
