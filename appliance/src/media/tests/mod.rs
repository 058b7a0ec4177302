mod behaviour;
mod cuts;
mod damage;
pub(crate) mod disk;
