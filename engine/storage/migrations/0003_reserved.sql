-- A number that another migration takes: this file stands for it until the two branches meet.
select 1;
