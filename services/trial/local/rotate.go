package local

import (
	"fmt"
	"os"
	"time"

	"coatcheck/auth"
	"coatcheck/chassis/config"
)

// RotateKeys has the shop sign by a new key in some 20 seconds, as make rotate-keys
// does for tickets that live as long as they do unless auth is told otherwise. It
// answers false, and changes nothing, while the last rotation still waits for its time.
func (s *Shop) RotateKeys() (rotated bool, err error) {
	lives, err := config.Load[auth.Lives](nil)
	if err != nil {
		return false, fmt.Errorf("rotating the keys: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := signingKeysPath(s.options.State)
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("rotating the keys: %w", err)
	}
	next, did, err := auth.RotateKeys(string(text), time.Now(), auth.LeastLead, lives.Longest())
	if err != nil || did.Pending {
		return false, err
	}
	if err := replace(path, []byte(next)); err != nil {
		return false, fmt.Errorf("rotating the keys: %w", err)
	}
	return true, nil
}
