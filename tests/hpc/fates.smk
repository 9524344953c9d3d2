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
    localrule: True


rule grown:
    output:
        "grown.txt",
    resources:
        mem_mb=lambda wc, attempt: 500 * attempt,
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
