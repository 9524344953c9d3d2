"""Jobs that fare ill or well, each as its name says, for the tests of profiles. Inputs are named as in the study's rules."""


rule all:
    input:
        "grown.txt",
        "cancelled_once.txt",
        "gpu_a.txt",
        "gpu_b.txt",
        "no_gpu.txt",
        "failed.txt",
        "late.txt",
        expand("turn_{name}.txt", name=["a", "b", "c"]),
        expand("member_{name}.txt", name=["a", "b", "c"]),
    localrule: True


rule grown:
    output:
        "grown.txt",
    resources:
        mem_mb=lambda wc, attempt: 500 * attempt,
        slurm_partition="",  # it is left to the partition configuration
    shell:
        "echo {resources.mem_mb} >> grown.log; [ {resources.mem_mb} -ge 1000 ]; mv grown.log {output}"


rule cancelled_once:
    output:
        "cancelled_once.txt",
    resources:
        nth=lambda wc, attempt: attempt,
    shell:
        'echo "$SLURM_JOB_ID" >> started.txt; [ {resources.nth} -gt 1 ] || sleep 600; mv started.txt {output}'


rule gpu:
    input:
        model="model.txt",
    output:
        "gpu_{name}.txt",
    shell:
        'echo "${{CUDA_VISIBLE_DEVICES:-none}} $SLURM_JOB_PARTITION" > {output}; sleep 12'


rule no_gpu:
    output:
        "no_gpu.txt",
    shell:
        'echo "${{CUDA_VISIBLE_DEVICES:-none}} $SLURM_JOB_PARTITION" > {output}'


rule failed:
    output:
        "failed.txt",
    shell:
        "echo attempt >> failed.log; touch {output}; exit 3"


rule late:
    output:
        "late.txt",
    retries: 0
    resources:
        runtime=1,
    shell:
        "touch {output}; sleep 600"


rule turn:
    output:
        "turn_{name}.txt",
    group:
        "judge"
    resources:
        mem_mb=lambda wc: {"a": 300, "b": 700, "c": 400}[wc.name],
        runtime=lambda wc: {"a": 10, "b": 20, "c": 30}[wc.name],
    shell:
        "date +%s.%N > {output}; sleep 3; date +%s.%N >> {output}; echo $SLURM_JOB_ID >> {output}"


# Submitted as an array, whose first member fails.
rule member:
    output:
        "member_{name}.txt",
    retries: 0
    resources:
        mem_mb=lambda wc: {"a": 300, "b": 700, "c": 400}[wc.name],
    shell:
        "echo {wildcards.name} $SLURM_ARRAY_TASK_ID {resources.mem_mb} >> members.log; touch {output}; [ $SLURM_ARRAY_TASK_ID != 1 ]"
