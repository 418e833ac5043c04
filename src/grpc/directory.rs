//! Decides who reads the directory. Never vouches for it: its signatures do.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tonic::{Request, Response, Status};

use super::peer;
use crate::wire::pb::directory::directory_service_server::DirectoryService;
use crate::wire::pb::directory::{GetDirectoryRequest, GetDirectoryResponse};

/// The directory door: the signed note as the alliance issued it.
#[derive(Debug)]
pub struct Directory {
    pub note: Arc<ArcSwap<String>>,
}

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn get_directory(
        &self,
        request: Request<GetDirectoryRequest>,
    ) -> Result<Response<GetDirectoryResponse>, Status> {
        peer(&request)?;
        Ok(Response::new(GetDirectoryResponse { directory_note: self.note.load().as_ref().clone() }))
    }
}
