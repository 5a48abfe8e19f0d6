//! Fetching without a network: wheels made here, a hub made here.
