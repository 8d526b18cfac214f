package redisstore

import "time"

// WaitForAll has batches wait for every server of a cluster, however slow.
func (s *Store) WaitForAll() { s.patience = time.Hour }
