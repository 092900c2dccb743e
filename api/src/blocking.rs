//! Work of a handler that waits for the disk.

use crate::error::ApiError;

/// Runs it where waiting holds nobody up.
pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::Internal(e.to_string()))?;
    done.map_err(Into::into)
}
