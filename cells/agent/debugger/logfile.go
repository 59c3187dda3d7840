package debugger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const (
	lookAtFile = 500 * time.Millisecond // between two looks at a file that is followed
	fileBlock  = 64 << 10               // bytes that are read at once
)

// readFile reads a log that is a file, with the rights of the user that the owner chose.
func (c *channel) readFile(ctx context.Context, what diagnostics.LogRead, out io.Writer) int {
	a, err := c.session.programs.lookUp()
	if err == nil {
		l := logFile{open: func() (*os.File, error) { return openLog(a.id, what.Log.File) }, out: out,
			say: func(text string) { c.say(cleantext.Line(text)) }}
		err = l.read(ctx, what.Tail, what.Follow)
	}
	switch {
	case ctx.Err() != nil:
		return codeEnded
	case err != nil:
		c.say(cleantext.Line(err.Error()))
		return codeNotRead
	}
	return 0
}

// openLog opens a regular file with a user's rights; nil: the agent's. No part of its path may be a symbolic link: who
// may write to a folder on the way would choose by one what is read.
func openLog(as *process.User, name string) (*os.File, error) {
	f, err := openUnlinked(as, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	return f, nil
}

// errLinked means that a path has a symbolic link.
var errLinked = errors.New("a part of its path is a symbolic link, and none is followed: the release has to name the " +
	"file's own path")

// logFile is a log whose file is read.
type logFile struct {
	open func() (*os.File, error)
	out  io.Writer
	say  func(string)
}

// read writes the last lines and, if the file is to be followed, what is added to it, and to those that take its name,
// until ctx ends.
func (l *logFile) read(ctx context.Context, lines int, follow bool) error {
	f, err := l.open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := seekLines(ctx, f, lines); err != nil {
		return err
	}
	ticker := time.NewTicker(lookAtFile)
	defer ticker.Stop()
	for said := ""; ; {
		if err := l.copy(ctx, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		next, err := l.replaced(f)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it is being rotated
		case err != nil && err.Error() != said:
			said = err.Error()
			l.say(said)
		case next != nil:
			if err := l.copy(ctx, f); err != nil { // what was written before the other file took the name
				return errors.Join(err, next.Close())
			}
			_ = f.Close()
			f = next
		}
	}
}

// copy writes what the file has from where it was read to.
func (l *logFile) copy(ctx context.Context, f *os.File) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Size() < at { // it was emptied
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	block := make([]byte, fileBlock)
	for ctx.Err() == nil {
		n, err := f.Read(block)
		if n > 0 {
			if _, err := l.out.Write(block[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// replaced returns the file that has taken the name of another; nil: that one has it.
func (l *logFile) replaced(f *os.File) (*os.File, error) {
	next, err := l.open()
	if err != nil {
		return nil, err
	}
	was, err := f.Stat()
	is, failed := next.Stat()
	if err = errors.Join(err, failed); err != nil || os.SameFile(was, is) {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// seekLines sets a file to its last lines.
func seekLines(ctx context.Context, f *os.File, lines int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	block := make([]byte, fileBlock)
	for at := end; at > 0 && ctx.Err() == nil; {
		part := block[:min(at, fileBlock)]
		at -= int64(len(part))
		n, err := f.ReadAt(part, at)
		if err != nil && !errors.Is(err, io.EOF) { // it was emptied meanwhile
			return err
		}
		part = part[:n]
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if from := at + int64(i) + 1; from < end {
				if lines--; lines == 0 {
					_, err := f.Seek(from, io.SeekStart)
					return err
				}
			}
			part = part[:i]
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// pathParts returns the folders on the way to a file, from the root on, and the file's name.
func pathParts(name string) (folders []string, base string) {
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	return parts[:len(parts)-1], parts[len(parts)-1]
}
