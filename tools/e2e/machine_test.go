package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bootPatience is how long a machine may take to boot: processors are
// emulated, and shared with other tests.
const bootPatience = 2 * time.Minute

// virtual is a virtual machine.
type virtual struct {
	dir     string
	qemu    *exec.Cmd
	service *exec.Cmd // nestd guest vm, by way of the testbed
	shell   net.Conn
	out     *bufio.Reader
}

// power makes, boots and ends virtual machines, the way that nestd says.
func power(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 3, "machine start|reboot|off NEST NAME")
	b, name := bedOf(ts), args[2]
	v := b.machines[name]
	switch args[0] {
	case "start":
		if v == nil {
			v = &virtual{dir: filepath.Join(filepath.Dir(b.dir), "vm-"+name)}
			b.machines[name] = v
			ts.Defer(v.end)
			ts.Check(v.make())
		}
		ts.Check(v.start(b, args[1], name))
	case "reboot":
		_, _ = fmt.Fprintln(v.shell, "sync; reboot -f")
	case "off": // as if the power had failed
		v.off()
		return
	default:
		usage(ts, false, "machine start|reboot|off NEST NAME")
	}
	if err := v.connect(); err != nil {
		console, _ := os.ReadFile(filepath.Join(v.dir, "console"))
		log, _ := os.ReadFile(filepath.Join(v.dir, "log"))
		ts.Fatalf("machine %s: %v\n%s\n%s", name, err, console, log)
	}
}

// make makes what the machine boots.
func (v *virtual) make() error {
	if err := os.Mkdir(v.dir, 0o755); err != nil {
		return err
	}
	b, err := initramfs()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(v.dir, "initramfs"), b, 0o644); err != nil {
		return err
	}
	return makeDisk(v.dir, filepath.Join(v.dir, "disk"))
}

// start starts the service that nestd has described, unless it runs, and QEMU
// with the arguments that nestd has told.
func (v *virtual) start(b *bed, nest, name string) error {
	kernel, err := kernelImage()
	if err != nil {
		return err
	}
	arguments, service, err := b.described(nest, name)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(v.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if v.service == nil {
		v.service = exec.Command(b.program("stork-testbed"), append([]string{"exec", "--dir", b.dir, nest, "--"}, service...)...)
		v.service.Stdout, v.service.Stderr = log, log
		if err := v.service.Start(); err != nil {
			return err
		}
		if err := awaitText(log.Name(), "msg=ready"); err != nil {
			return err
		}
	}
	v.qemu = exec.Command("qemu-system-x86_64", append([]string{
		"-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-display", "none",
		"-object", "memory-backend-memfd,id=ram,size=512M,share=on", "-machine", "q35,memory-backend=ram",
		"-kernel", kernel, "-initrd", filepath.Join(v.dir, "initramfs"), "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-serial", "file:" + filepath.Join(v.dir, "console"),
		"-drive", "if=virtio,format=raw,file=" + filepath.Join(v.dir, "disk"),
		"-chardev", "socket,id=shell,path=" + filepath.Join(v.dir, "sh") + ",server=on,wait=off",
	}, append(arguments, "-device", "virtserialport,chardev=shell,name=test.shell")...)...)
	v.qemu.Stdout, v.qemu.Stderr = log, log
	return v.qemu.Start()
}

// described asks nestd what the machine's runtime has to be told.
func (b *bed) described(nest, name string) (arguments, service []string, err error) {
	out, err := exec.Command(b.program("stork-testbed"), "exec", "--dir", b.dir, nest, "--", b.program("nestd"), "--dir", filepath.Join(b.dir, nest),
		"guest", "show", name, "--runtime", "qemu", "--json").Output()
	if err != nil {
		return nil, nil, err
	}
	var shown struct {
		Runtime struct {
			Arguments []string
			File      struct{ Content string }
		}
	}
	if err := json.Unmarshal(out, &shown); err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(shown.Runtime.File.Content) {
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			return shown.Runtime.Arguments, strings.Fields(command), nil
		}
	}
	return nil, nil, fmt.Errorf("no ExecStart= in %s", shown.Runtime.File.Content)
}

func awaitText(path, text string) error {
	for start := time.Now(); time.Since(start) < patience; time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
			return nil
		}
	}
	b, _ := os.ReadFile(path)
	return fmt.Errorf("no %s after %s: %s", text, patience, b)
}

// connect waits for the machine's shell. What is written while a machine goes
// down is lost, so it knocks more than once.
func (v *virtual) connect() (err error) {
	if v.shell != nil {
		_ = v.shell.Close()
	}
	time.Sleep(500 * time.Millisecond) // a shell of before has no time to answer
	for start := time.Now(); time.Since(start) < bootPatience; time.Sleep(50 * time.Millisecond) {
		if v.shell, err = net.Dial("unix", filepath.Join(v.dir, "sh")); err != nil {
			continue
		}
		v.out = bufio.NewReader(v.shell)
		var status int
		if _, status, err = v.run("true", 3*time.Second); err == nil && status == 0 {
			return nil
		}
		_ = v.shell.Close()
	}
	return fmt.Errorf("does not boot: %w", err)
}

// run runs a command line in the machine, and returns what it has printed.
func (v *virtual) run(line string, timeout time.Duration) (out string, status int, err error) {
	token := rand.Text()
	if err := v.shell.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", 0, err
	}
	if _, err := fmt.Fprintf(v.shell, "(%s\n) </dev/null 2>&1; s=$?; echo; echo %s $s\n", line, token); err != nil {
		return "", 0, err
	}
	for {
		text, err := v.out.ReadString('\n')
		if err != nil {
			return out, 0, err
		}
		if rest, ok := strings.CutPrefix(text, token+" "); ok {
			status, err = strconv.Atoi(strings.TrimSpace(rest))
			return strings.TrimSuffix(out, "\n"), status, err
		}
		out += text
	}
}

// vm runs a command line in a machine. Its output and errors are the stdout.
func vm(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	want, args := status(ts, args)
	usage(ts, len(args) >= 2, "vm [-status N] NAME COMMAND…")
	line := strings.Join(args[1:], " ")
	out, got, err := bedOf(ts).machines[args[0]].run(line, bootPatience)
	fmt.Fprint(ts.Stdout(), out)
	if err != nil {
		ts.Fatalf("%v, after: %s", err, out)
	}
	if got != want {
		ts.Fatalf("status %d, want %d: %s", got, want, out)
	}
}

// off switches the machine off.
func (v *virtual) off() {
	if v.shell != nil {
		_ = v.shell.Close()
		v.shell = nil
	}
	if v.qemu != nil && v.qemu.Process != nil {
		_ = v.qemu.Process.Kill()
		_ = v.qemu.Wait()
	}
	v.qemu = nil
}

// end ends the machine and its service, if the script has not.
func (v *virtual) end() {
	v.off()
	if v.service != nil {
		_ = v.service.Process.Kill() // the testbed ends what runs in it
		_ = v.service.Wait()
	}
}
