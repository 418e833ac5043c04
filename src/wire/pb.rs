//! The generated types, as the protos nest them. Named only in `wire`, `grpc`, `courier::dial` and `cli::client`.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod tongban {
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("tongban.admin.v1");
        }
    }
    pub mod exchange {
        pub mod v1 {
            tonic::include_proto!("tongban.exchange.v1");
        }
    }
    pub mod evidence {
        pub mod v1 {
            tonic::include_proto!("tongban.evidence.v1");
        }
    }
    pub mod directory {
        pub mod v1 {
            tonic::include_proto!("tongban.directory.v1");
        }
    }
    pub mod routing {
        pub mod v1 {
            tonic::include_proto!("tongban.routing.v1");
        }
    }
}

pub mod grpc {
    pub mod reflection {
        pub mod v1 {
            tonic::include_proto!("grpc.reflection.v1");
        }
        pub mod v1alpha {
            tonic::include_proto!("grpc.reflection.v1alpha");
        }
    }
}

pub use grpc::reflection;
pub use tongban::admin::v1 as admin;
pub use tongban::directory::v1 as directory;
pub use tongban::evidence::v1 as evidence;
pub use tongban::exchange::v1 as exchange;
pub use tongban::routing::v1 as routing;

/// The descriptor set of all services, as the build compiled it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.binpb"));
