// SPDX-License-Identifier: Apache-2.0
// Plain scalar form of every kernel.
#include "ckernels.h"
#include <math.h>
#include <string.h>
#include <stdlib.h>
#pragma clang fp contract(off)
uint32_t ck_thread_setup(void){ uint32_t o=__builtin_ia32_stmxcsr(); __builtin_ia32_ldmxcsr(o|0x8040); return o; }
void ck_thread_restore(uint32_t c){__builtin_ia32_ldmxcsr(c);}
const char*ck_isa(void){return "reference";}
int ck_select_isa(const char*n){return strcmp(n,"reference")?-1:0;}
const char*ck_isa_override_problem(void){return NULL;}
static float b2f(uint16_t b){uint32_t u=(uint32_t)b<<16;float f;memcpy(&f,&u,4);return f;}
static uint16_t f2b(float f){uint32_t u;memcpy(&u,&f,4);if(f!=f)return (u>>16)|0x40;u+=0x7fff+((u>>16)&1);return u>>16;}
void ck_f32_to_bf16(const float*x,int64_t n,uint16_t*o){for(int64_t i=0;i<n;i++)o[i]=f2b(x[i]);}
void ck_bf16_to_f32(const uint16_t*x,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=b2f(x[i]);}
void ck_f16_to_f32(const uint16_t*x,int64_t n,float*o){for(int64_t i=0;i<n;i++){_Float16 h;memcpy(&h,x+i,2);o[i]=(float)h;}}
void ck_f32_to_f16(const float*x,int64_t n,uint16_t*o){for(int64_t i=0;i<n;i++){_Float16 h=(_Float16)x[i];memcpy(o+i,&h,2);}}
void ck_exp(const float*x,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=expf(x[i]);}
void ck_log(const float*x,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=logf(x[i]);}
void ck_sin(const float*x,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=(float)sin(x[i]);}
void ck_cos(const float*x,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=(float)cos(x[i]);}
size_t ck_packed_byte_count(ck_compute c,int64_t o,int64_t i){size_t a=(o+15)/16*16;return c==CK_BF16?a*((i+1)/2*2)*2:a*i*4;}
static float stored(ck_stored s,const void*p,size_t i){if(s==CK_STORED_F32)return((const float*)p)[i];if(s==CK_STORED_BF16)return b2f(((const uint16_t*)p)[i]);float f;ck_f16_to_f32((const uint16_t*)p+i,1,&f);return f;}
void ck_pack(ck_compute c,ck_stored s,const void*src,int64_t O,int64_t I,int64_t r0,int64_t r1,void*dst){
 for(int64_t r=r0;r<(r1==O?(O+15)/16*16:r1);r++){ if(c==CK_BF16){int64_t I2=(I+1)/2*2;for(int64_t i=0;i<I2;i++)((uint16_t*)dst)[(r/16)*16*I2+(i/2)*32+(r%16)*2+(i&1)]=(r<O&&i<I)?f2b(stored(s,src,(size_t)r*I+i)):0;}
 else for(int64_t i=0;i<I;i++)((float*)dst)[(r/16)*16*I+i*16+r%16]=r<O?stored(s,src,(size_t)r*I+i):0;}}
static float dotp(ck_compute c,const void*W,int64_t I,const void*x,int64_t r){float a=0;
 if(c==CK_BF16){int64_t I2=(I+1)/2*2;const uint16_t*w=(const uint16_t*)W+(r/16)*16*I2+(r%16)*2,*X=x;for(int64_t i=0;i<I;i+=2){float o=i+1<I?b2f(X[i+1]):0;a=fmaf(b2f(X[i]),b2f(w[i*16]),fmaf(o,b2f(w[i*16+1]),a));}}
 else{const float*w=(const float*)W+(r/16)*16*I+r%16,*X=x;for(int64_t i=0;i<I;i++)a=fmaf(X[i],w[i*16],a);}return a;}
void ck_linear(ck_compute c,const void*W,int64_t O,int64_t I,const void*x,int64_t xs,int64_t R,float*y,int64_t ys,int64_t o0,int64_t o1){int b=c==CK_BF16?2:4;
 for(int64_t r=0;r<R;r++)for(int64_t o=o0;o<o1;o++)y[r*ys+o]=dotp(c,W,I,(const char*)x+r*xs*b,o);}
void ck_swiglu(ck_compute c,const void*G,const void*U,int64_t O,int64_t I,const void*x,int64_t xs,int64_t R,void*out,int64_t os,int64_t o0,int64_t o1){int b=c==CK_BF16?2:4;
 for(int64_t r=0;r<R;r++)for(int64_t o=o0;o<o1;o++){float g=dotp(c,G,I,(const char*)x+r*xs*b,o),u=dotp(c,U,I,(const char*)x+r*xs*b,o);float v=g/(1+expf(-g))*u;if(c==CK_BF16)((uint16_t*)out)[r*os+o]=f2b(v);else((float*)out)[r*os+o]=v;}}
static float tree(float*l){for(int h=8;h;h/=2)for(int i=0;i<h;i++)l[i]+=l[i+h];return l[0];}
void ck_rms_norm(ck_compute c,const float*x,int64_t xs,const float*w,float e,int64_t n,int64_t R,void*out,int64_t os){
 for(int64_t r=0;r<R;r++){const float*X=x+r*xs;float l[16]={0};for(int64_t i=0;i<n;i++)l[i%16]=fmaf(X[i],X[i],l[i%16]);float s=1/sqrtf(tree(l)/n+e);
 for(int64_t i=0;i<n;i++){float v=X[i]*s*w[i];if(c==CK_BF16)((uint16_t*)out)[r*os+i]=f2b(v);else((float*)out)[r*os+i]=v;}}}
void ck_rope(float*x,int64_t hs,int64_t H,int64_t D,const float*co,const float*si){int64_t h=D/2;for(int64_t k=0;k<H;k++)for(int64_t i=0;i<h;i++){float*p=x+k*hs;float a=p[i],b=p[i+h];p[i]=fmaf(a,co[i],-(b*si[i]));p[i+h]=fmaf(b,co[i],a*si[i]);}}
void ck_add(const float*a,const float*b,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=a[i]+b[i];}
void ck_scale(const float*x,float s,int64_t n,float*o){for(int64_t i=0;i<n;i++)o[i]=s*x[i];}
void ck_softmax(float*x,int64_t n){float m=-INFINITY,l[16]={0};for(int64_t i=0;i<n;i++)if(x[i]>m)m=x[i];for(int64_t i=0;i<n;i++){x[i]=expf(x[i]-m);l[i%16]+=x[i];}float s=tree(l);for(int64_t i=0;i<n;i++)x[i]/=s;}
void ck_attention(ck_compute c,const float*q,const void*const*kp,const void*const*vp,int64_t P,int64_t N,int64_t H,int64_t G,int64_t D,float sc,int64_t h0,int64_t h1,void*out){
 float*acc=malloc(D*4),*pv=malloc(D*4);for(int64_t h=h0;h<h1;h++){int64_t g=h/(H/G);float M=-INFINITY,S=0;memset(acc,0,D*4);
 for(int64_t s0=0;s0<N;s0+=256){int64_t n=N-s0<256?N-s0:256;float p[256],m=-INFINITY,ls[16]={0};memset(pv,0,D*4);
 #define AT(pp,t,d) (c==CK_BF16?b2f(((const uint16_t*)pp[(t)/P])[((t)%P*G+g)*D+d]):((const float*)pp[(t)/P])[((t)%P*G+g)*D+d])
 for(int64_t t=0;t<n;t++){float l[16]={0};for(int64_t d=0;d<D;d++)l[d%16]=fmaf(q[h*D+d],AT(kp,s0+t,d),l[d%16]);p[t]=sc*tree(l);if(p[t]>m)m=p[t];}
 for(int64_t t=0;t<n;t++){p[t]=expf(p[t]-m);ls[t%16]+=p[t];for(int64_t d=0;d<D;d++)pv[d]=fmaf(p[t],AT(vp,s0+t,d),pv[d]);}
 float mm=M>m?M:m,a=expf(M-mm),b=expf(m-mm);S=S*a+tree(ls)*b;for(int64_t d=0;d<D;d++)acc[d]=acc[d]*a+pv[d]*b;M=mm;}
 for(int64_t d=0;d<D;d++){float v=acc[d]/S;if(c==CK_BF16)((uint16_t*)out)[h*D+d]=f2b(v);else((float*)out)[h*D+d]=v;}}free(acc);free(pv);}
void ck_softmax_statistics(const float*x,int64_t n,float it,float*mx,double*sum,double*wt){float m=-INFINITY;for(int64_t i=0;i<n;i++){float z=x[i]*it;if(z>m)m=z;}double s=0,w=0;for(int64_t c=0;c<n;c+=4096){float l[16]={0},k[16]={0};for(int64_t i=c;i<n&&i<c+4096;i++){float z=x[i]*it-m,e=expf(z);l[i%16]+=e;k[i%16]=fmaf(e,z,k[i%16]);}s+=tree(l);w+=tree(k);}*mx=m;*sum=s;*wt=w;}
