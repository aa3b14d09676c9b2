# unit tests of trainer
