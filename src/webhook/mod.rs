//! Telling merchants: relay, schedule, signatures, and the guard against dialling inwards.
