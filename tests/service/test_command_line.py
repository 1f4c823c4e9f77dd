"""What a command starts behind launchers, interpreters, shells and tools, and what of it cannot be seen."""

from __future__ import annotations

import shlex

from hypothesis import example, given
from hypothesis import strategies as st

from carbonmon.service.command_line import look_behind, short_name
from carbonmon.service.naming import command_name
from carbonmon.service.unseen import unseen_note
from carbonmon.service.wrappers import WRAPPERS
from tests.support.rows import for_each_row


@for_each_row(
    ("line", "name"),
    [
        # Python
        ("python train.py --lr 1", "train"),
        ("/usr/bin/python3.11 -u /home/me/models/train.py", "train"),
        ("python3.14t train.py", "train"),
        ("python -W ignore x.py", "x"),
        ("python -Wignore x.py", "x"),
        ("python -uW ignore x.py", "x"),
        ("python -X dev -m pkg.train --lr 1", "pkg.train"),
        ("python -mpkg.train", "pkg.train"),
        ("python -c 'import train'", "python"),
        ("python -", "python"),
        ("python", "python"),
        ("python -m cProfile -o out.prof train.py", "train"),
        ("python -m cProfile -m pkg.train", "pkg.train"),
        ("python -m pdb -c continue train.py", "train"),
        ("python -m coverage run --source pkg train.py", "train"),
        ("ipython -- train.py", "train"),
        ("pypy3 train.py", "train"),
        # torch
        ("torchrun --nproc-per-node 2 train.py", "train"),
        ("torchrun --standalone --nproc_per_node=gpu -m pkg.train --lr 1", "pkg.train"),
        ("torchrun --nnodes 1 --rdzv-backend c10d --rdzv-endpoint n1:29500 train.py --epochs 2", "train"),
        ("torchrun --no-python --nproc-per-node 2 bash -c 'python train.py'", "train"),
        ("torchrun -r 3 --master-port 29501 train.py", "train"),
        ("python -m torch.distributed.run --nproc-per-node 2 train.py", "train"),
        ("python -m torch.distributed.launch --nproc_per_node 2 --use_env train.py", "train"),
        ("accelerate launch --num_processes 2 --mixed_precision fp16 --multi_gpu train.py --x 1", "train"),
        ("accelerate launch --config_file a.yaml -m pkg.train", "pkg.train"),
        ("python -m accelerate.commands.launch --cpu --num_processes 2 train.py", "train"),
        ("accelerate config", "accelerate"),
        ("deepspeed --num_gpus 2 --include localhost:0,1 train.py --deepspeed ds.json", "train"),
        ("composer -n 8 train.py", "train"),
        ("fabric run --accelerator cpu --devices 2 train.py", "train"),
        ("horovodrun -np 4 -H n1:2,n2:2 python train.py", "train"),
        # MPI and schedulers
        ("mpirun -np 4 --bind-to none -x PATH --mca btl ^openib python train.py", "train"),
        ("mpirun --oversubscribe -n 2 ./a.out", "a.out"),
        ("mpiexec -n 4 -genv OMP_NUM_THREADS 2 python train.py", "train"),
        ("mpiexec.hydra -ppn 2 python train.py", "train"),
        ("srun -n 4 --gres gpu:1 python train.py", "train"),
        ("srun --ntasks=4 -l --cpu-bind none -n4 python -m pkg.train", "pkg.train"),
        ("sbatch -N 2 job.sbatch", "job"),
        ("sbatch --wrap 'python train.py'", "train"),
        ("flux run -n 4 python train.py", "train"),
        # tools
        ("env A=1 -u B python train.py", "train"),
        ("env -S 'python -u' train.py", "train"),
        ("env", "env"),
        ("timeout 60 python train.py", "train"),
        ("timeout -k 5 --signal INT 60 python train.py", "train"),
        ("taskset -c 0-3 python train.py", "train"),
        ("taskset 0x3 python train.py", "train"),
        ("nice -n 10 python train.py", "train"),
        ("nice -10 python train.py", "train"),
        ("ionice -c2 -n 7 python train.py", "train"),
        ("stdbuf -oL -e 0 python train.py", "train"),
        ("numactl --cpunodebind=0 --membind 0 python train.py", "train"),
        ("numactl -N 0 -m 0 python train.py", "train"),
        ("time -f %e python train.py", "train"),
        ("nohup python train.py", "train"),
        ("sudo -E -u bob A=1 python train.py", "train"),
        ("chrt -b 0 python train.py", "train"),
        ("strace -f -o log python train.py", "train"),
        ("nsys profile -o out -t cuda,nvtx python train.py", "train"),
        ("perf stat -e cycles -- python train.py", "train"),
        ("timeout 60 env X=1 nice torchrun --nproc-per-node=2 train.py", "train"),
        ("carbonmon run --region FR -- python train.py", "train"),
        # shells
        ("bash job.sh", "job"),
        ("bash -x ./job.sh 1", "job"),
        ("bash", "bash"),
        ("bash -c 'python train.py --lr 1'", "train"),
        ("bash -lc 'cd x && source env/bin/activate && python train.py | tee log'", "train"),
        ("sh -c 'export A=1; B=2 exec python train.py'", "train"),
        ("bash -c 'for i in 1 2; do python train.py $i; done'", "train"),
        ("bash -ec 'module load cuda\nsrun -n2 python train.py'", "train"),
        ("sh -c 'carbonmon phase load; python prepare.py; carbonmon phase train'", "prepare"),
        ("sh -c 'exit 1'", "sh"),
        # environments and containers
        ("uv run train.py", "train"),
        ("uv run --with torch --extra gpu python train.py", "train"),
        ("uv run -m pkg.train", "pkg.train"),
        ("poetry run python train.py", "train"),
        ("conda run -n ml --no-capture-output python train.py", "train"),
        ("apptainer exec --nv -B /data image.sif python train.py", "train"),
        ("docker run --rm --gpus all -v /a:/b -it image:latest python train.py", "train"),
        ("docker ps", "docker"),
        ("kubectl exec -it pod-1 -- python train.py", "train"),
        ("ray job submit --working-dir . -- python train.py", "train"),
        # others
        ("papermill in.ipynb out.ipynb", "in"),
        ("jupyter nbconvert --to notebook --execute study.ipynb", "study"),
        ("./a.out 1", "a.out"),
        ("julia -t 4 train.jl", "train"),
        ("Rscript -e '1 + 1'", "Rscript"),
    ],
)
def test_a_run_is_named_by_what_it_trains(line: str, name: str):
    assert command_name(shlex.split(line)) == name


def test_a_command_without_words_has_a_name_all_the_same():
    assert command_name([]) == command_name([""]) == "run"


WORDS = st.sampled_from(
    [*WRAPPERS, "-c", "-m", "--", "-n", "4", "-", "--x=1", "A=1", "train.py", "run", "'", "$("]
)


@given(st.lists(WORDS | st.text(max_size=6), max_size=8))
@example(["/"])
def test_no_command_line_is_too_odd_for_a_name(words: list[str]):
    assert command_name(words)
    target = look_behind(words)
    assert len(target.behind) == len(target.wrappers)
    assert short_name(target.program) or not target.program


@for_each_row(
    ("line", "said"),
    [
        ("srun -n 4 python train.py", "srun -n 4 carbonmon run -- python train.py"),
        ("timeout 60 srun python train.py", "timeout 60 srun carbonmon run -- python train.py"),
        ("bash -c 'cd x && srun -n2 python train.py'", "carbonmon run -- python train.py"),
        ("/opt/slurm/bin/srun hostname", "slurmstepd's children"),
        ("docker run --rm image python train.py", "into the image"),
        ("docker run image", "carbonmon daemon"),
        ("docker compose up", "carbonmon daemon"),
        ("podman run image python train.py", "may not be counted"),
        ("kubectl apply -f job.yaml", "carbonmon pods"),
        ("sbatch job.sh", "into the script"),
        ("ray job submit -- python train.py", "ray start --block"),
        ("ssh n2 python train.py", "ssh n2 carbonmon run -- python train.py"),
        ("flux run -n 2 python train.py", "flux run -n 2 carbonmon run -- python train.py"),
    ],
)
def test_a_command_whose_work_runs_elsewhere_is_told_where_carbonmon_belongs(line: str, said: str):
    assert said in unseen_note(shlex.split(line), {})


@for_each_row(
    "line",
    [
        "python train.py",
        "torchrun --nproc-per-node 2 train.py",
        "mpirun -np 2 python train.py",
        "srun carbonmon run -- python train.py",
        "docker ps",
        "kubectl get pods",
        "ray start --head",
        "apptainer exec image.sif python train.py",
        "bash job.sh",
    ],
)
def test_a_command_that_is_seen_is_told_nothing(line: str):
    assert unseen_note(shlex.split(line), {}) == ""


def test_a_ray_cluster_that_runs_already_is_known_by_its_address():
    assert "RAY_ADDRESS=auto" in unseen_note(["python", "train.py"], {"RAY_ADDRESS": "auto"})
    assert unseen_note(["python", "train.py"], {"RAY_ADDRESS": "local"}) == ""


def test_containers_of_a_run_that_owns_the_node_are_counted():
    words = ["docker", "run", "image"]
    assert unseen_note(words, {}, owns_node=True) == ""
    assert unseen_note(["srun", *words], {}, owns_node=True), "its tasks may be on other nodes"
