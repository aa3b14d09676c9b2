# unit tests of rendezvous
