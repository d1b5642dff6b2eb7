package repo

import (
	"errors"
	"fmt"
)

// RecordFormat is the version of the package record that this code writes
// and reads.
const RecordFormat = 1

// Record is everything a package declares. Its canonical JSON names it: the
// SHA-256 of that is the package ID. It holds nothing that differs between
// two builds of the record from the same blob.
type Record struct {
	Arch          Arch           `json:"arch"`
	Blob          Blob           `json:"blob"`
	BuildTime     int64          `json:"build_time,omitempty"` // seconds since the epoch, UTC
	Conflicts     []string       `json:"conflicts,omitempty"`
	Description   string         `json:"description,omitempty"`
	Enhances      []string       `json:"enhances,omitempty"`
	Epoch         uint32         `json:"epoch,omitempty"`
	FileList      FileListObject `json:"file_list"`
	FileTriggers  []FileTrigger  `json:"file_triggers,omitempty"`
	Format        int            `json:"format"`
	InstalledSize int64          `json:"installed_size"` // bytes of all regular files, each hard link once
	License       string         `json:"license,omitempty"`
	Name          Name           `json:"name"`
	Obsoletes     []Capability   `json:"obsoletes,omitempty"`
	Paths         []string       `json:"paths,omitempty"` // primary paths: see IsPrimaryPath
	Provides      []Capability   `json:"provides,omitempty"`
	Recommends    []string       `json:"recommends,omitempty"`
	Release       string         `json:"release"`
	Requires      []string       `json:"requires,omitempty"`     // not those in RequiresPre
	RequiresPre   []string       `json:"requires_pre,omitempty"` // needed before the package's own scriptlets run
	Scriptlets    []Scriptlet    `json:"scriptlets,omitempty"`
	Source        string         `json:"source,omitempty"` // the source package's file name
	Suggests      []string       `json:"suggests,omitempty"`
	Summary       string         `json:"summary,omitempty"`
	Supplements   []string       `json:"supplements,omitempty"`
	Swarm         *Swarm         `json:"swarm,omitempty"` // if the blob is larger than MinSwarm, and only then
	Triggers      []Trigger      `json:"triggers,omitempty"`
	URL           string         `json:"url,omitempty"`
	Vendor        string         `json:"vendor,omitempty"`
	Version       string         `json:"version"`
}

// BlobFormat says how a blob is read.
type BlobFormat string

// RPM is a package file as rpmbuild writes it (rpm.org, "RPM V4/V6 Package
// format").
const RPM BlobFormat = "rpm"

// Blob names the package file as it was built.
type Blob struct {
	Digest Digest     `json:"digest"`
	Format BlobFormat `json:"format"`
	Size   int64      `json:"size"`
}

// FileListObject names a package's file list.
type FileListObject struct {
	Count  int    `json:"count"` // entries in the list
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
}

// Phase is when a scriptlet or trigger runs, under RPM's name without the
// percent sign (rpm-scriptlets(7)).
type Phase string

// The scriptlet phases, in the order in which one install or removal meets
// them, and the trigger phases.
const (
	PreTrans   Phase = "pretrans"
	Pre        Phase = "pre"
	Post       Phase = "post"
	PostTrans  Phase = "posttrans"
	PreUnTrans Phase = "preuntrans"
	PreUn      Phase = "preun"
	PostUn     Phase = "postun"
	PostUnTran Phase = "postuntrans"
	Verify     Phase = "verifyscript"

	TriggerPreIn  Phase = "triggerprein"
	TriggerIn     Phase = "triggerin"
	TriggerUn     Phase = "triggerun"
	TriggerPostUn Phase = "triggerpostun"

	FileTriggerIn          Phase = "filetriggerin"
	FileTriggerUn          Phase = "filetriggerun"
	FileTriggerPostUn      Phase = "filetriggerpostun"
	TransFileTriggerIn     Phase = "transfiletriggerin"
	TransFileTriggerUn     Phase = "transfiletriggerun"
	TransFileTriggerPostUn Phase = "transfiletriggerpostun"
)

// Scriptlet is a program that a package runs in the guest. Interpreter is
// the program and its fixed arguments; "<lua>" alone stands for RPM's
// embedded Lua. An empty Script runs the interpreter alone ("-p").
type Scriptlet struct {
	Interpreter []string `json:"interpreter"`
	Phase       Phase    `json:"phase"`
	Script      string   `json:"script,omitempty"`
}

// Trigger is a scriptlet that runs when one of On is installed or removed.
type Trigger struct {
	Interpreter []string     `json:"interpreter"`
	On          []Capability `json:"on"`
	Phase       Phase        `json:"phase"`
	Script      string       `json:"script,omitempty"`
}

// FileTrigger is a scriptlet that runs when files below one of Prefixes come
// or go; a higher Priority runs earlier.
type FileTrigger struct {
	Interpreter []string `json:"interpreter"`
	Phase       Phase    `json:"phase"`
	Prefixes    []string `json:"prefixes"`
	Priority    uint32   `json:"priority"`
	Script      string   `json:"script,omitempty"`
}

// EVR returns the package's epoch, version and release.
func (r *Record) EVR() EVR { return EVR{Epoch: r.Epoch, Version: r.Version, Release: r.Release} }

// NEVRA returns what identifies this build among the publisher's.
func (r *Record) NEVRA() NEVRA { return NEVRA{Name: r.Name, EVR: r.EVR(), Arch: r.Arch} }

// Encode returns the record's canonical JSON and its digest, the package ID.
func (r *Record) Encode() ([]byte, Digest, error) {
	b, err := EncodeCanonical(r)
	return b, DigestOf(b), err
}

// MaxRecord is the size in bytes that no record's canonical form exceeds.
const MaxRecord = 16 << 20

// What a record may have is counted before it is parsed: one of 3 bytes in the
// text, "{},", takes 100 in memory. Real ones have up to some ten thousand
// capabilities.
const (
	maxRecordObjects  = 1 << 18
	maxRecordElements = 1 << 20
)

// DecodeRecord reads a record and checks everything that can be checked
// without the blob.
func DecodeRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("cannot decode package record: over %d bytes", MaxRecord)
	}
	if tooMany(b, maxRecordObjects, maxRecordElements) {
		return nil, errors.New("cannot decode package record: it says too many things")
	}
	r := new(Record)
	if err := DecodeCanonical(b, r); err != nil {
		return nil, fmt.Errorf("cannot decode package record: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("cannot decode package record: %w", err)
	}
	return r, nil
}

func (r *Record) check() error {
	if r.Format != RecordFormat {
		return fmt.Errorf("unknown format %d: this program reads %d", r.Format, RecordFormat)
	}
	if r.Name == "" || r.Arch == "" || r.Blob.Digest.IsZero() || r.FileList.Digest.IsZero() {
		return errors.New("name, arch, blob and file list are required")
	}
	if r.Blob.Format != RPM {
		return fmt.Errorf("unknown blob format %q", r.Blob.Format)
	}
	if r.Blob.Size <= 0 || r.Blob.Size > MaxBlob || r.FileList.Size <= 0 || r.FileList.Size > MaxFileList || r.FileList.Count < 0 || r.InstalledSize < 0 {
		return errors.New("a size is out of range")
	}
	if err := r.checkSwarm(); err != nil {
		return err
	}
	if !isVersion(r.Version) || !isVersion(r.Release) {
		return fmt.Errorf("bad version %q or release %q", r.Version, r.Release)
	}
	return r.checkLists()
}

func (r *Record) checkLists() error {
	for _, list := range r.requirementLists() {
		for _, s := range list {
			if _, err := ParseRequirement(s); err != nil {
				return err
			}
		}
	}
	for _, p := range r.Paths {
		if err := CheckPath(p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) requirementLists() [][]string {
	return [][]string{r.Requires, r.RequiresPre, r.Conflicts, r.Recommends, r.Suggests, r.Supplements, r.Enhances}
}
