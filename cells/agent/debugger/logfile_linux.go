package debugger

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/cells/process"
)

// openUnlinked opens a file by an absolute path without symbolic links, as a user.
func openUnlinked(as *process.User, name string) (f *os.File, err error) {
	if as == nil {
		return walk(name)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks it: the thread, which alone has the user's rights, ends with this
		if err = become(as); err == nil {
			f, err = walk(name)
		}
	}()
	<-done
	return f, err
}

// become has this thread open files as a user. The kernel takes the privileges of files from it with that.
func become(as *process.User) error {
	groups := make([]int, len(as.Groups))
	for i, g := range as.Groups {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil { // of this thread: unlike syscall's
		return fmt.Errorf("become the user that the owner chose: %w", err)
	}
	const query = -1 // it changes nothing, and returns what is set
	_, _ = unix.SetfsgidRetGid(int(as.Group))
	_, _ = unix.SetfsuidRetUid(int(as.ID))
	group, _ := unix.SetfsgidRetGid(query)
	id, _ := unix.SetfsuidRetUid(query)
	if group != int(as.Group) || id != int(as.ID) {
		return errors.New("become the user that the owner chose: the system does not let the agent")
	}
	return nil
}

// walk opens a file folder by folder, and follows no link. openat2 could do so at once, where the kernel and what
// confines the agent know it.
func walk(name string) (*os.File, error) {
	folders, base := pathParts(name)
	at, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		next, err := unix.Openat(at, folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOTDIR) && isLink(at, folder) {
			err = errLinked
		}
		_ = unix.Close(at)
		if err != nil {
			return nil, err
		}
		at = next
	}
	defer func() { _ = unix.Close(at) }()
	// Without O_NONBLOCK, a pipe without a writer would hold it up.
	fd, err := unix.Openat(at, base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		err = errLinked
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil //nolint:gosec // descriptors are small and positive
}

func isLink(at int, name string) bool {
	var s unix.Stat_t
	return unix.Fstatat(at, name, &s, unix.AT_SYMLINK_NOFOLLOW) == nil && s.Mode&unix.S_IFMT == unix.S_IFLNK
}
