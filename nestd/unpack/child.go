package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"stork/nestd/confine"
	"stork/repo/rpmfile"
)

// The child's descriptors, beside its standard ones.
const (
	answerFD = 3
	filesFD  = 4
	firstFD  = 5 // and from here on, none
)

// Limits of a child. Most memory goes to the file list, which a package of a
// million files needs, and to the window of the decompressor.
const (
	maxMemory    = 2 << 30
	maxOpenFiles = 64
	maxSlack     = 64 << 10 // bytes a file may be larger than the record says, before the kernel stops it
)

// Main is the whole life of a child that Run started; args are what Run
// appended to Options.Args. It returns the exit status.
func Main(args []string) int {
	result := os.NewFile(answerFD, "answer")
	err := confined(args, func(installed int64) error {
		return Child(os.Stdin, result, ".", installed)
	})
	if err == nil {
		return 0
	}
	if sayErr := writeRefused(result, err); sayErr != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// confined gives up every right that unpacking does not need, then works.
func confined(args []string, work func(installed int64) error) error {
	if len(args) != 2 {
		return errors.New("the unpacker is started by nestd only")
	}
	installed, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || installed < 0 {
		return fmt.Errorf("bad size %q", args[0])
	}
	seconds, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return fmt.Errorf("bad time %q", args[1])
	}
	if err := unix.Fchdir(filesFD); err != nil {
		return fmt.Errorf("cannot enter staging directory: %w", err)
	}
	if err := confine.CloseInherited(firstFD); err != nil {
		return err
	}
	if err := confine.Seal("."); err != nil {
		return err
	}
	if err := confine.Filter(); err != nil {
		return err
	}
	err = confine.SetLimits(confine.Limits{
		Memory: maxMemory, FileSize: uint64(installed) + maxSlack, CPU: seconds, OpenFiles: maxOpenFiles,
	})
	if err != nil {
		return err
	}
	return work(installed)
}

// Child reads a package from blob, writes the content of the n-th file of its
// list to a file named n in filesDir, and the record and the list to answer.
// It refuses a package whose files have more than installed bytes together.
func Child(blob io.Reader, answer io.Writer, filesDir string, installed int64) error {
	dir, err := unix.Open(filesDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open staging directory: %w", err)
	}
	defer unix.Close(dir)
	w := &writer{dir: dir, left: installed, buffer: make([]byte, 256<<10)}
	record, list, err := rpmfile.Walk(blob, w.write)
	if err != nil {
		return err
	}
	var result Result
	if result.Record, _, err = record.Encode(); err != nil {
		return err
	}
	if result.FileList, _, err = list.Encode(); err != nil {
		return err
	}
	return writeUnpacked(answer, result)
}

// writer writes files into the staging directory.
type writer struct {
	dir    int
	left   int64 // bytes that may still be written
	buffer []byte
}

func (w *writer) write(e rpmfile.Entry, content io.Reader) error {
	if w.left -= e.Size; w.left < 0 {
		return errors.New("files have more bytes than the record says")
	}
	name := strconv.Itoa(e.Index)
	fd, err := unix.Openat(w.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write file %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(content, e.Size), w.buffer)
	if err == nil && n != e.Size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write file %s: %w", name, err)
	}
	return nil
}
