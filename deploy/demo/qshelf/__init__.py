"""The demo application of qslots: a code index, thumbnails and mails, made from files found on this machine."""
