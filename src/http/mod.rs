//! Everything that is spoken over HTTP. `routes` has the whole surface on one page; each endpoint is
//! one file; status codes and problem texts are in `problem` alone.
