# unit tests of trainer
include(trainer_distributed.cmake)
