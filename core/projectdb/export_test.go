package projectdb

// Process returns the id of the process that is the project's worker, 0 for none.
func (s *Supervisor) Process(uid string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.open[uid]; held != nil && held.worker != nil {
		return held.worker.child.Pid
	}
	return 0
}

// Waiting returns how many statements wait for room.
func (s *Supervisor) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}
