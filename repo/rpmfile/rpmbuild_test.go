package rpmfile_test

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/rpmfile"
)

// everything has one of each thing that a payload and a header can have.
const everything = `
Name: everything
Epoch: 3
Version: 1.2~rc1
Release: 4^git5
Summary: One of each
License: MIT
BuildArch: noarch
AutoReqProv: no
Requires: plain >= 1:2-3, (rich or other)
Requires(pre): before
Requires(postun): behind
Recommends: weak
Supplements: (sup and plement)
Provides: thing = 5
Obsoletes: old < 1
%description
Text with "quotes" and <angles>.
%prep
%build
%install
cd %{buildroot}
mkdir -p opt/x/empty var/log etc/x usr/bin
echo content > opt/x/file
head -c 700000 /dev/zero | tr '\0' 'z' > opt/x/big
: > opt/x/nothing
echo linked > opt/x/z-last
ln opt/x/z-last opt/x/a-first
ln opt/x/z-last opt/x/m-middle
: > opt/x/empty1
ln opt/x/empty1 opt/x/empty2
ln -s ../x/file opt/x/link
echo old > var/log/x.log
echo conf > etc/x/x.conf
echo "#!/bin/sh" > usr/bin/x
mkfifo opt/x/fifo
%pre
echo pre
%post -p <lua>
print("post")
%postun -p /bin/true
%posttrans -p "/bin/sh -e"
echo posttrans
%triggerin -- one > 2, two
echo trigger
%filetriggerin -P 77 -- /usr/lib /usr/share
echo files
%transfiletriggerpostun -- /etc
echo gone
%files
%defattr(-,root,root)
%dir %attr(1777,daemon,games) /opt/x/empty
%dir /opt/x
%attr(0640,bin,-) /opt/x/file
/opt/x/big
/opt/x/nothing
/opt/x/z-last
/opt/x/a-first
/opt/x/m-middle
/opt/x/empty1
/opt/x/empty2
/opt/x/link
/opt/x/fifo
%ghost /var/log/x.log
%config(noreplace) /etc/x/x.conf
%attr(4755,root,root) %caps(cap_net_raw,cap_net_admin=ep) /usr/bin/x
%dev(c, 5, 1) %attr(0600,root,root) /opt/x/device
`

// TestRpmbuildPackages reads the same package with every compression of the
// payload and compares it with rpm, and its content with what went in.
func TestRpmbuildPackages(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{"w.ufdio", "w6.gzdio", "w9.bzdio", "w2.xzdio", "w2.lzdio", "w3.zstdio", "w2T2.xzdio"} {
		t.Run(payload, func(t *testing.T) {
			t.Parallel()
			for _, digest := range []string{"1", "8", "10"} {
				path := fixtures.Rpmbuild(t, everything, "_binary_payload "+payload, "_binary_filedigest_algorithm "+digest)[0]
				compare(t, path)
				checkEverything(t, path)
				if payload != "w6.gzdio" {
					break // every digest once is enough
				}
			}
		})
	}
}

func checkEverything(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	contents := map[int][]byte{}
	file, err := rpmfile.FromStart(f)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := rpmfile.Walk(file, func(e rpmfile.Entry, r io.Reader) error {
		if _, twice := contents[e.Index]; twice {
			t.Errorf("%s came twice", e.Path)
		}
		contents[e.Index], err = io.ReadAll(r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	total := int64(0)
	for i := range list.Files {
		f := &list.Files[i]
		content, ok := contents[i]
		if want := f.Type == repo.Regular && f.LinkTo == "" && !f.Has(repo.Ghost); ok != want {
			t.Errorf("%s: content came: %v, want %v", f.Path, ok, want)
		}
		total += int64(len(content))
		if ok && (repo.DigestOf(content) != f.Digest || int64(len(content)) != f.Size) {
			t.Errorf("%s: %d bytes, not what the list says", f.Path, len(content))
		}
	}
	if total != record.InstalledSize {
		t.Errorf("installed size is %d, content %d", record.InstalledSize, total)
	}
	checkLinks(t, list)
	if !slices.Equal(record.RequiresPre, []string{"/bin/sh", "before"}) && !slices.Contains(record.RequiresPre, "before") {
		t.Errorf("needed before: %q", record.RequiresPre)
	}
	if slices.Contains(record.RequiresPre, "behind") {
		t.Error("a requirement of postun is needed before the installation")
	}
}

func checkLinks(t *testing.T, list *repo.FileList) {
	t.Helper()
	byPath := map[string]*repo.File{}
	for i := range list.Files {
		byPath[list.Files[i].Path] = &list.Files[i]
	}
	for path, want := range map[string]string{"/opt/x/a-first": "", "/opt/x/m-middle": "/opt/x/a-first",
		"/opt/x/z-last": "/opt/x/a-first", "/opt/x/empty1": "", "/opt/x/empty2": "/opt/x/empty1", "/opt/x/nothing": ""} {
		if f := byPath[path]; f == nil || f.LinkTo != want {
			t.Errorf("%s is %+v, want a link to %q", path, f, want)
		}
	}
	if f := byPath["/opt/x/device"]; f.Type != repo.Char || f.Rdev != 5<<8|1 {
		t.Errorf("device is %+v", f)
	}
	if f := byPath["/opt/x/fifo"]; f.Type != repo.Fifo {
		t.Errorf("fifo is %+v", f)
	}
	want := []byte{1, 0, 0, 2, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if got := byPath["/usr/bin/x"].Xattrs[repo.CapabilityXattr]; !bytes.Equal(got, want) {
		t.Errorf("capabilities are %x, want %x", got, want)
	}
}
