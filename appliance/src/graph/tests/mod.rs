mod keeping;
mod reading;
mod rig;
mod ways;
