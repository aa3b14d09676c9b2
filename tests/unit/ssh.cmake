# unit tests of ssh
