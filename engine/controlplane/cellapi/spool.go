package cellapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/sluice-cd/sluice/engine/plan"
)

// spoolMemory is up to how many bytes content is held in memory. What is larger is read from disk.
const spoolMemory = 4 << 20

// spool holds content: in memory, or in a file without a name, which goes with the process. It is written by one
// goroutine, and then read by any number.
type spool struct {
	dir    string // of the file; empty: the system's for temporary files
	memory bytes.Buffer
	file   *os.File // nil: in memory
	size   int64
}

func (s *spool) Write(b []byte) (int, error) {
	if s.file == nil && s.size+int64(len(b)) > spoolMemory {
		if err := s.moveToFile(); err != nil {
			return 0, err
		}
	}
	w := io.Writer(&s.memory)
	if s.file != nil {
		w = s.file
	}
	n, err := w.Write(b)
	s.size += int64(n)
	return n, fullDisk(err)
}

func (s *spool) moveToFile() error {
	f, err := os.CreateTemp(s.dir, ".content-*")
	if err != nil {
		return fmt.Errorf("make a file for content: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(fmt.Errorf("make a file for content: %w", err), f.Close())
	}
	s.file = f
	_, err = f.Write(s.memory.Bytes())
	s.memory = bytes.Buffer{}
	return fullDisk(err)
}

// fullDisk marks the error of a full disk as one that people can mend.
func fullDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", plan.ErrFull, err)
	}
	return err
}

// reader returns a reader of the whole content.
func (s *spool) reader() *io.SectionReader {
	if s.file != nil {
		return io.NewSectionReader(s.file, 0, s.size)
	}
	return io.NewSectionReader(bytes.NewReader(s.memory.Bytes()), 0, s.size)
}

// memorySize and diskSize return the bytes that are held in memory and on disk.
func (s *spool) memorySize() int64 {
	if s == nil || s.file != nil {
		return 0
	}
	return s.size
}

func (s *spool) diskSize() int64 {
	if s == nil || s.file == nil {
		return 0
	}
	return s.size
}

// close frees the content.
func (s *spool) close() {
	if s != nil && s.file != nil {
		_ = s.file.Close() // it was only read
	}
}
