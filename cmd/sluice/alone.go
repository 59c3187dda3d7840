package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFile is held in the data folder while serve runs there. It stays when it is not held.
const lockFile = "serve.lock"

// alone keeps a second serve out of the data folder: each has what cells report to it in memory, so that the other
// would take the same cells for silent. The system frees it when the process ends, however it ends.
func alone(data string) (release func() error, err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fail(err, "--data names a folder, which is made if it is not there")
	}
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fail(err, "--data names a folder that can be written")
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return f.Close, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fail(fmt.Errorf("another serve works in %s", data), "stop that one first, or give this one a --data of its own")
	default:
		err = fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}
