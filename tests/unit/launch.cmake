# unit tests of launch
