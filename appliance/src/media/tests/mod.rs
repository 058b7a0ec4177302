mod behaviour;
mod cuts;
mod damage;
mod disk;
