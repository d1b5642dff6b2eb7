package attach

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// storeOn returns by what a mount of the store's is known in any mount
// namespace: its file system, and the store's directory in that. layersDir is
// in the store's directory, as is what layers are renamed to before they go.
func storeOn(layersDir string) (device, root string, err error) {
	dir, err := os.OpenFile(layersDir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", "", fmt.Errorf("cannot open the layers: %w", err)
	}
	defer dir.Close()
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return "", "", fmt.Errorf("cannot find the layers: %w", err)
	}
	id, err := mountOf(int(dir.Fd()))
	if err != nil {
		return "", "", err
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the host's mounts: %w", err)
	}
	for _, m := range mounts {
		rel, err := filepath.Rel(m.Mountpoint, real)
		if m.ID == id && err == nil {
			return deviceOf(m), filepath.Dir(filepath.Join(m.Root, rel)), nil
		}
	}
	return "", "", fmt.Errorf("cannot find the mount of %s", layersDir)
}

func deviceOf(m *mountinfo.Info) string { return fmt.Sprintf("%d:%d", m.Major, m.Minor) }

// mountOf returns the number of the mount that an open file is reached by.
func mountOf(fd int) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("cannot identify a mount: %w", err)
	}
	return int(st.Mnt_id), nil
}

// inStore reports whether a mount shows something of the store.
func (r *placeRequest) inStore(m *mountinfo.Info) bool {
	return deviceOf(m) == r.StoreDev && strings.HasPrefix(m.Root, strings.TrimSuffix(r.StoreRoot, "/")+"/")
}
