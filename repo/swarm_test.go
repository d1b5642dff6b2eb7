package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// swarmContent is the blob of a vector: see fixtures/vectors/swarm.py.
func swarmContent(size int64) []byte {
	var b []byte
	for n := 0; int64(len(b)) < size; n++ {
		sum := sha256.Sum256([]byte(strconv.Itoa(n)))
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// infoOf writes a blob in parts of that many bytes.
func infoOf(b []byte, part int) *Info {
	h := NewPieceHasher(int64(len(b)))
	for rest := b; len(rest) > 0; {
		n := min(part, len(rest))
		h.Write(rest[:n])
		rest = rest[n:]
	}
	return h.Info(DigestOf(b))
}

// TestSwarmVectors holds the info dictionary to what other code makes of the
// same bytes.
func TestSwarmVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "fixtures", "vectors", "swarm.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Size     int64  `json:"size"`
		Blob     Digest `json:"blob"`
		InfoSize int64  `json:"info_size"`
		Swarm    Swarm  `json:"swarm"`
	}
	if err := DecodeStrict(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, v := range vectors {
		content := swarmContent(v.Size)
		for _, part := range []int{1 << 20, 10_000, len(content)} {
			info := infoOf(content, part)
			if *info.Swarm() != v.Swarm || info.Blob != v.Blob {
				t.Errorf("%d bytes in parts of %d: got %+v of %s, want %+v of %s", v.Size, part, *info.Swarm(), info.Blob, v.Swarm, v.Blob)
			}
		}
		info := infoOf(content, len(content))
		r := &Record{Blob: Blob{Digest: v.Blob, Size: v.Size}, Swarm: info.Swarm()}
		if o, ok := r.InfoObject(); !ok || o != ObjectOf(info.Encode()) || o.Size != v.InfoSize {
			t.Errorf("%d bytes: the dictionary is named %+v, want %d bytes", v.Size, o, v.InfoSize)
		}
		back, err := DecodeInfo(info.Encode())
		if err != nil || back.Size != v.Size || back.Blob != v.Blob || !bytes.Equal(back.Pieces, info.Pieces) {
			t.Errorf("%d bytes: the dictionary is read as %d bytes of %s, %v", v.Size, back.Size, back.Blob, err)
		}
	}
}

func TestPieceLength(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int64{
		-1: 0, 0: 0, MinSwarm: 0, MinSwarm + 1: 16 << 10, 16 << 20: 16 << 10, 16<<20 + 1: 32 << 10, 25e6: 32 << 10,
		1 << 30: 1 << 20, 8 << 30: 8 << 20, 8<<30 + 1: 8 << 20, MaxBlob: 8 << 20,
	} {
		if got := PieceLength(size); got != want {
			t.Errorf("PieceLength(%d) = %d, want %d", size, got, want)
		}
	}
	largest := &Info{Size: MaxBlob, Pieces: make([]byte, pieceBytes(MaxBlob))}
	if n := len(largest.Encode()); n > MaxInfo {
		t.Errorf("the largest dictionary has %d bytes, over %d", n, MaxInfo)
	}
}

func TestDecodeInfoRefuses(t *testing.T) {
	t.Parallel()
	good := string(infoOf(swarmContent(MinSwarm+1), 1<<10).Encode())
	if _, err := DecodeInfo([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty": "", "no dictionary": "le", "cut": good[:len(good)-1], "more": good + "e",
		"public":          strings.Replace(good, "7:privatei1e", "7:privatei0e", 1),
		"no private":      strings.Replace(good, "7:privatei1e", "", 1),
		"piece length":    strings.Replace(good, "i16384e", "i32768e", 1),
		"negative length": strings.Replace(good, "i65537e", "i-65537e", 1),
		"length 0":        strings.Replace(good, "i65537e", "i0e", 1),
		"leading zero":    strings.Replace(good, "i65537e", "i065537e", 1),
		"plus":            strings.Replace(good, "i65537e", "i+65537e", 1),
		"other length":    strings.Replace(good, "i65537e", "i98305e", 1),
		"huge length":     strings.Replace(good, "i65537e", "i9223372036854775807e", 1),
		"no swarm":        strings.Replace(good, "i65537e", "i65536e", 1),
		"name":            strings.Replace(good, "4:name64:", "4:name64:../../", 1),
		"upper case":      strings.Replace(good, "4:name64:", "4:name64:A", 1),
		"files":           strings.Replace(good, "d6:length", "d5:filesle6:length", 1),
		"large":           "d" + strings.Repeat("x", MaxInfo),
	} {
		if _, err := DecodeInfo([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRecordSwarm(t *testing.T) {
	t.Parallel()
	good := infoOf(swarmContent(MinSwarm+1), 1<<10).Swarm()
	for name, test := range map[string]struct {
		size  int64
		swarm *Swarm
		ok    bool
	}{
		"small, none": {MinSwarm, nil, true}, "large": {MinSwarm + 1, good, true},
		"large, none": {MinSwarm + 1, nil, false}, "small with one": {MinSwarm, good, false},
		"piece length": {MinSwarm + 1, &Swarm{Info: good.Info, InfoHash: good.InfoHash, PieceLength: 1 << 20}, false},
		"no info":      {MinSwarm + 1, &Swarm{InfoHash: good.InfoHash, PieceLength: good.PieceLength}, false},
		"too large":    {MaxBlob + 1, &Swarm{Info: good.Info, PieceLength: 8 << 20}, false},
		"overflow":     {1<<63 - 1, &Swarm{Info: good.Info, PieceLength: 8 << 20}, false},
	} {
		r := sampleRecord()
		r.Blob.Size, r.Swarm = test.size, test.swarm
		b, _, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRecord(b); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{`""`, `"` + strings.Repeat("0", 39) + `"`, `"` + strings.Repeat("A", 40) + `"`, `"` + strings.Repeat("g", 40) + `"`, `1`} {
		if err := json.Unmarshal([]byte(bad), new(InfoHash)); err == nil {
			t.Errorf("info hash %s was accepted", bad)
		}
	}
}

// FuzzDecodeInfo: what is accepted is what PieceHasher makes, to the byte.
func FuzzDecodeInfo(f *testing.F) {
	for _, size := range []int64{MinSwarm + 1, 100_000} {
		f.Add(infoOf(swarmContent(size), 4096).Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeInfo(b)
		if err != nil {
			return
		}
		if !bytes.Equal(i.Encode(), b) || int64(len(i.Pieces)) != pieceBytes(i.Size) {
			t.Errorf("%q was read as %d bytes of %s", b, i.Size, i.Blob)
		}
	})
}
