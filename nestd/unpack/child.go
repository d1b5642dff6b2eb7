package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"stork/nestd/confine"
	"stork/repo/rpmfile"
)

// The child's descriptors, beside its standard ones: standard input is the
// blob.
const (
	answerFD = 3
	partsFD  = 4 // says which frames to read; else none
	firstFD  = 4 // and from here on, none
)

// Limits of a child. Most memory goes to the file list, which a package of a
// million files needs, and to the window of the decompressor.
const (
	maxMemory    = 2 << 30
	maxOpenFiles = 64
	maxFileSize  = 1 // it writes none; 0 would set no limit
)

// Main is the whole life of a child that Open started; args are what Open
// appended to Options.Args. It returns the exit status.
func Main(args []string) int {
	out := newSender(os.NewFile(answerFD, "answer"))
	work := func() error { return sendPackage(os.Stdin, out) }
	none := firstFD
	if len(args) == 2 && args[1] == partsArg {
		args, none = args[:1], partsFD+1
		work = func() error { return sendParts(os.Stdin, os.NewFile(partsFD, "parts"), out) }
	}
	err := confined(args, none, work)
	if err == nil {
		return 0
	}
	if sayErr := out.refuse(err); sayErr != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// confined gives up every right that unpacking does not need, then works. From
// the descriptor none on there is none.
func confined(args []string, none int, work func() error) error {
	if len(args) != 1 {
		return errors.New("the unpacker is started by nestd only")
	}
	seconds, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("bad time %q", args[0])
	}
	if err := confine.CloseInherited(none); err != nil {
		return err
	}
	err = confine.SetLimits(confine.Limits{
		Memory: maxMemory, FileSize: maxFileSize, CPU: seconds, OpenFiles: maxOpenFiles,
	})
	if err != nil {
		return err
	}
	if err := confine.Seal(); err != nil {
		return err
	}
	if err := confine.Filter(); err != nil {
		return err
	}
	return work()
}

// sendPackage reads a package from blob and sends what is in it.
func sendPackage(blob *os.File, out *sender) error {
	reader, list, err := begin(blob)
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := out.send(sendsList, list); err != nil {
		return err
	}
	// The parent has something to do already.
	if err := out.out.Flush(); err != nil {
		return err
	}
	if err := sendFiles(reader, out); err != nil {
		return err
	}
	p, err := reader.Finish()
	if err != nil {
		return err
	}
	text, _, err := p.Record.Encode()
	if err != nil {
		return err
	}
	if err := out.send(sendsRecord, text); err != nil {
		return err
	}
	return out.out.Flush()
}

// begin opens the package and returns its file list. The header has it, but
// in packages of old, whose header has other digests than SHA-256: those are
// read twice.
func begin(blob *os.File) (*rpmfile.Reader, []byte, error) {
	reader, err := open(blob)
	if err != nil {
		return nil, nil, err
	}
	list, ok := reader.Declared()
	if !ok {
		defer reader.Close()
		p, err := reader.Finish()
		if err != nil {
			return nil, nil, err
		}
		list = p.Files
		if reader, err = open(blob); err != nil {
			return nil, nil, err
		}
	}
	text, _, err := list.Encode()
	if err != nil {
		reader.Close()
		return nil, nil, err
	}
	return reader, text, nil
}

func open(blob *os.File) (*rpmfile.Reader, error) {
	file, err := rpmfile.FromStart(blob)
	if err != nil {
		return nil, err
	}
	return rpmfile.NewReader(file)
}

func sendFiles(reader *rpmfile.Reader, out *sender) error {
	for {
		e, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !e.Content {
			continue
		}
		if err := out.file(e.Index, e.Size); err != nil {
			return err
		}
		if _, err := reader.WriteTo(out); err != nil {
			return err
		}
	}
}
